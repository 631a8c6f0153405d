"""Jacobi and lookahead decoding: the model's own guesses, verified."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    Forward,
    Greedy,
    Jacobi,
    Lookahead,
    Model,
    NoRepeatNgram,
    RepetitionPenalty,
    Sampling,
    Strategy,
    TableRunner,
    Task,
    Temperature,
    TopK,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.testing.enumeration import distribution

TARGET = Model(TableRunner(cache(lambda tokens: np.random.default_rng([1, *tokens]).standard_normal(3) * 1.5)))
CIRCLE = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
ALWAYS = Model(TableRunner({(): [0.0, 9.0, 0.0]}))

METHODS: list[Any] = [
    lambda strategy: Jacobi(strategy),
    lambda strategy: Jacobi(strategy, num_tokens=1),
    lambda strategy: Lookahead(strategy),
    lambda strategy: Lookahead(strategy, window=2, ngram=2, max_drafts=1),
]
NAMES = ["jacobi", "jacobi of one", "lookahead", "narrow lookahead"]
every_method = pytest.mark.parametrize("method", METHODS, ids=NAMES)


@every_method
@pytest.mark.parametrize(
    "chain",
    [Chain(), TopK(2) | Temperature(1.5), RepetitionPenalty(1.7), NoRepeatNgram(3)],
    ids=str,
)
def test_plain_sampling(method: Any, chain: LogitsProcessor) -> None:
    plain = distribution(Sampling(processors=chain), TARGET, [0, 1, 0], max_new_tokens=4)
    strategy = method(Sampling(processors=chain))
    assert distribution(strategy, TARGET, [0, 1, 0], max_new_tokens=4) == pytest.approx(plain, abs=1e-6)


@every_method
def test_greedy_tokens(method: Any) -> None:
    for prompt in ([0], [0, 1, 0], [2, 2, 1]):
        plain = TARGET.generate(prompt, Greedy(), max_new_tokens=20)
        generation = TARGET.generate(prompt, method(Greedy()), max_new_tokens=20)
        assert generation.tokens == plain.tokens
        assert generation.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-5)
        assert generation.info["rounds"] == generation.cost.forwards <= plain.cost.forwards


def test_own_processors_come_before_those_of_the_strategy() -> None:
    plain = distribution(Sampling(processors=TopK(2) | Temperature(0.6)), TARGET, [0], max_new_tokens=3)
    for method in (Jacobi, Lookahead):
        strategy = method(Sampling(temperature=0.6), processors=TopK(2))
        assert distribution(strategy, TARGET, [0], max_new_tokens=3) == pytest.approx(plain, abs=1e-6)


def test_jacobi_verifies_what_the_last_inference_found_best() -> None:
    generation = ALWAYS.generate([0], Jacobi(num_tokens=3), max_new_tokens=9)
    assert generation.tokens == (1,) * 9
    # At first it guesses 0 0 0, and is told 1; then 1 1 1 and one more, twice.
    assert generation.info == {"rounds": 3, "drafted": 9, "accepted": 6, "acceptance": 2 / 3}


def test_lookahead_finds_a_circle() -> None:
    generation = CIRCLE.generate([0], Lookahead(window=3, ngram=3), max_new_tokens=12)
    assert generation.tokens == (1, 2, 0) * 4
    # Two inferences fill the window; from then on each n-gram is in the pool: two tokens accepted, and one more.
    assert generation.info["rounds"] < 8
    assert generation.info["accepted"] == 12 - generation.info["rounds"]


def test_an_ngram_pool_keeps_the_latest() -> None:
    few = CIRCLE.generate([0], Lookahead(window=3, ngram=3, max_drafts=1), max_new_tokens=12)
    many = CIRCLE.generate([0], Lookahead(window=3, ngram=3, max_drafts=9), max_new_tokens=12)
    assert few.tokens == many.tokens
    assert few.info["drafted"] <= many.info["drafted"]


@every_method
def test_nothing_is_asked_beyond_a_stop_or_the_context(method: Any) -> None:
    short = Model(TableRunner({(): [0.0, 9.0, 0.0]}, context_length=6))
    assert short.generate([0, 1], method(Greedy()), max_new_tokens=50).tokens == (1,) * 4
    ended = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]), eos_token_ids=[2])
    assert ended.generate([0], method(Greedy()), max_new_tokens=50).tokens == (1, 2)


@every_method
def test_only_what_is_decided_is_streamed(method: Any) -> None:
    pieces = list(CIRCLE.stream([0], method(Greedy()), max_new_tokens=12))
    assert "".join(pieces) == "bca" * 4
    assert len(pieces) == CIRCLE.generate([0], method(Greedy()), max_new_tokens=12).info["rounds"]


def test_alone_and_among_others() -> None:
    strategies = [method(inner) for method in METHODS for inner in (Greedy(), Sampling())]
    alone = [TARGET.generate([0, 1, 0], each, max_new_tokens=9, seed=4).tokens for each in strategies]
    tasks = [Task(TARGET, [0, 1, 0], each, max_new_tokens=9, seed=4) for each in strategies]
    together = {generation.index: generation.tokens for generation in run(tasks)}
    assert [together[index] for index in range(len(tasks))] == alone


@pytest.mark.parametrize("spec", ["jacobi:num_tokens=8", "lookahead:strategy=(sampling:top_k=3),window=7,ngram=5"])
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec
    assert isinstance(parse(spec), Strategy)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Jacobi("beam"), "strategy"),  # type: ignore[arg-type]
        (lambda: Jacobi(num_tokens=0), "num_tokens"),
        (lambda: Lookahead(window=0), "window"),
        (lambda: Lookahead(ngram=1), "ngram"),
        (lambda: Lookahead(max_drafts=0), "max_drafts"),
    ],
)
def test_a_parameter_out_of_range_is_named(build: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{named}`"):
        build()


def test_a_guess_is_asked_as_a_draft() -> None:
    prompt = TARGET.vocabulary.prompt([0, 1])
    decoding = Lookahead(window=2, ngram=3).decode(prompt, lambda sequence: None, None)  # type: ignore[arg-type]
    verified, *guesses = next(decoding)  # type: ignore[call-overload]
    assert isinstance(verified, Forward)
    assert verified.sequence is prompt
    assert [(each.sequence.tokens.tolist(), each.draft) for each in guesses] == [
        ([0, 1], True),
        ([0, 1, 1], True),
        ([0, 1, 1, 0], True),
    ]
