from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    DraftModel,
    Greedy,
    LogitsProcessor,
    MinP,
    Model,
    NoRepeatNgram,
    PromptLookup,
    Random,
    RepetitionPenalty,
    Sampling,
    Sequence,
    Speculative,
    StopTokens,
    TableRunner,
    Task,
    Temperature,
    TopK,
    TopP,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, StrategyError
from ovdecode.processor import Chain
from ovdecode.proposer import Drafted, Law, Proposer, Proposing
from ovdecode.stopping import Stop
from ovdecode.strategies.speculative import verify
from ovdecode.testing.enumeration import Choices, distribution


def noise(seed: int, vocab: int = 3) -> Model:
    rows = cache(lambda tokens: np.random.default_rng([seed, *tokens]).standard_normal(vocab) * 1.5)
    return Model(TableRunner(rows))


TARGET, WORSE = noise(1), noise(2)


@dataclass(frozen=True)
class Fixed(Proposer):
    """Always proposes the same tokens, as certain."""

    tokens: tuple[int, ...] = ()

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        yield from ()
        return [Drafted(token) for token in self.tokens]


@dataclass(frozen=True)
class Unrelated(Proposer):
    """Draws each token from a distribution that has nothing to do with any model, and holds one to be
    impossible."""

    num_tokens: int = 2

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        yield from ()
        guess = np.array([0.0, 0.9, 0.1])
        return [Drafted(rng.choose(guess), guess) for _ in range(self.num_tokens)]


PROPOSERS = [
    DraftModel(TARGET, 2),
    DraftModel(WORSE, 1),
    DraftModel(WORSE, 2),
    DraftModel(WORSE, 2, processors=Temperature(2.0) | TopK(2)),
    Fixed(()),
    Fixed((2, 2, 2)),
    Fixed((0, 1)),
    Unrelated(2),
    PromptLookup(3, 2),
]
CHAINS = [
    Chain(),
    Temperature(0.6),
    TopK(2) | Temperature(1.5),
    TopP(0.8),
    RepetitionPenalty(1.7) | MinP(0.2),
    NoRepeatNgram(2),
]


# ---- The law: exactly that of the plain strategy -----------------------------------------------------------


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: str(chain))
@pytest.mark.parametrize("proposer", PROPOSERS, ids=lambda proposer: repr(proposer)[:40])
def test_any_draft_gives_plain_sampling(proposer: Proposer, chain: LogitsProcessor) -> None:
    for length in (1, 3):
        plain = distribution(Sampling(processors=chain), TARGET, [0, 1, 0], max_new_tokens=length)
        strategy = Speculative(Sampling(processors=chain), proposer)
        assert distribution(strategy, TARGET, [0, 1, 0], max_new_tokens=length) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("proposer", [PROPOSERS[2], Unrelated(3), PromptLookup(4, 2)], ids=lambda each: repr(each)[:20])
def test_over_more_tokens_with_stops_inside(proposer: Proposer) -> None:
    stop = StopTokens([[2], [1, 1]])
    plain = distribution(Sampling(), TARGET, [0], max_new_tokens=4, stop=stop)
    speculative = distribution(Speculative(Sampling(), proposer), TARGET, [0], max_new_tokens=4, stop=stop)
    assert speculative == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("proposer", PROPOSERS, ids=lambda proposer: repr(proposer)[:40])
@pytest.mark.parametrize("chain", CHAINS[:1] + CHAINS[4:], ids=lambda chain: str(chain))
def test_any_draft_gives_greedy_tokens(proposer: Proposer, chain: LogitsProcessor) -> None:
    for seed in range(3):
        strategy = Speculative(Greedy(processors=chain), proposer)
        options = {"max_new_tokens": 7 if chain is not CHAINS[5] else 4, "seed": seed}
        plain = TARGET.generate([0, 1, 0], Greedy(processors=chain), **options)
        assert TARGET.generate([0, 1, 0], strategy, **options).tokens == plain.tokens


def test_own_processors_come_before_those_of_the_strategy() -> None:
    chained = Speculative(Sampling(temperature=0.6), DraftModel(WORSE, 2), processors=TopK(2))
    plain = distribution(Sampling(processors=TopK(2) | Temperature(0.6)), TARGET, [0], max_new_tokens=3)
    assert distribution(chained, TARGET, [0], max_new_tokens=3) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize(
    ("draft", "target", "accepted"),
    [([0.5, 0.5], [0.5, 0.5], 1.0), ([0.9, 0.1], [0.5, 0.5], 0.6), ([1.0, 0.0], [0.0, 1.0], 0.0)],
)
def test_acceptance_is_what_the_two_have_in_common(draft: list[float], target: list[float], accepted: float) -> None:
    law, rate, choices = np.zeros(2), 0.0, Choices()
    while True:
        guess = np.array(draft)
        token, kept = verify(np.array(target), Drafted(choices.choose(guess), guess), choices)
        law[token] += choices.probability
        rate += choices.probability * kept
        if not choices.advance():
            break
    assert law == pytest.approx(target)
    assert rate == pytest.approx(accepted)  # Σ min(p, q)


# ---- What it costs, and what it tells ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Greedy(), Sampling(), Sampling(temperature=0.7, top_k=2)])
def test_a_draft_by_the_model_itself_is_always_accepted(strategy: Any) -> None:
    for seed in range(5):
        generation = TARGET.generate([0], Speculative(strategy, DraftModel(TARGET, 3)), max_new_tokens=12, seed=seed)
        assert generation.info == {"rounds": 3, "drafted": 9, "accepted": 9, "acceptance": 1.0}


def test_a_loop_is_looked_up() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
    generation = circle.generate([0, 1, 2, 0], Speculative(proposer=PromptLookup(num_tokens=3)), max_new_tokens=8)
    assert generation.tokens == (1, 2, 0, 1, 2, 0, 1, 2)
    assert generation.info == {"rounds": 2, "drafted": 6, "accepted": 6, "acceptance": 1.0}
    assert generation.cost.forwards == 2


def test_an_empty_draft_is_a_plain_step() -> None:
    generation = TARGET.generate([0], Speculative(proposer=Fixed(())), max_new_tokens=4)
    assert generation.info == {"rounds": 4, "drafted": 0, "accepted": 0, "acceptance": 0.0}


def test_a_wrong_draft_costs_no_token() -> None:
    always = Model(TableRunner({(): [0.0, 9.0, 0.0]}))
    generation = always.generate([0], Speculative(proposer=Fixed((2, 2))), max_new_tokens=4)
    assert generation.tokens == (1, 1, 1, 1)
    assert generation.info["rounds"] == 4
    assert generation.info["accepted"] == 0


def test_the_logprob_of_accepted_tokens_is_known() -> None:
    plain = TARGET.generate([0], Greedy(), max_new_tokens=6)
    drafted = TARGET.generate([0], Speculative(proposer=DraftModel(WORSE)), max_new_tokens=6)
    assert drafted.logprob == pytest.approx(plain.logprob, abs=1e-5)
    assert drafted.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-5)


# ---- Stops -------------------------------------------------------------------------------------------------


def test_nothing_is_produced_past_a_stop() -> None:
    always = Model(TableRunner({(): [0.0, 9.0, 0.0]}))
    generation = always.generate([0], Speculative(proposer=Fixed((1,) * 8)), max_new_tokens=5)
    assert generation.tokens == (1,) * 5
    assert generation.info["drafted"] == 5  # the draft is cut at the bound


def test_the_end_of_text_inside_a_draft_ends_it() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]), eos_token_ids=[2])
    generation = circle.generate([0], Speculative(proposer=Fixed((1, 2, 0, 1))))
    assert generation.tokens == (1, 2)
    assert str(generation.stop_reason).startswith("eos")
    assert generation.info["drafted"] == 2


def test_a_draft_stays_within_the_context() -> None:
    short = Model(TableRunner({(): [0.0, 9.0, 0.0]}, context_length=6))
    generation = short.generate([0, 1], Speculative(proposer=Fixed((1,) * 9)), max_new_tokens=50)
    assert generation.tokens == (1,) * 4
    drafted = short.generate([0, 1], Speculative(proposer=DraftModel(short, 9)), max_new_tokens=50)
    assert drafted.tokens == (1,) * 4


# ---- Company -----------------------------------------------------------------------------------------------


def test_what_is_accepted_is_streamed() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
    strategy = Speculative(proposer=DraftModel(circle, 2))
    assert list(circle.stream([0], strategy, max_new_tokens=7)) == ["bca", "bca", "b"]


def test_alone_and_among_others() -> None:
    strategies = [Speculative(Sampling(), proposer) for proposer in PROPOSERS] + [Sampling(), Greedy()]
    alone = [TARGET.generate([0, 1, 0], each, max_new_tokens=9, seed=4).tokens for each in strategies]
    tasks = [Task(TARGET, [0, 1, 0], each, max_new_tokens=9, seed=4) for each in strategies]
    together = {generation.index: generation.tokens for generation in run(tasks)}
    assert [together[index] for index in range(len(tasks))] == alone


# ---- Prompt lookup -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "draft"),
    [
        ([1, 2, 3], []),  # nothing occurred before
        ([1, 2, 1], [2, 1]),
        ([1, 2, 3, 4, 1, 2], [3, 4, 1]),
        ([1, 2, 5, 2, 6, 1, 2], [5, 2, 6]),  # the longer match counts, not the later one
        ([1, 2, 5, 1, 2, 6, 1, 2], [6, 1, 2]),  # of equal ones, the later
        ([7, 7, 7, 7], [7]),  # may overlap itself
        ([9, 1, 2, 3, 5, 8, 1, 2, 3, 6, 9, 1, 2, 3], [6, 9, 1]),  # not more than max_ngram are compared
        ([1], []),
    ],
)
def test_what_is_looked_up(tokens: list[int], draft: list[int]) -> None:
    assert PromptLookup(num_tokens=3, max_ngram=3).look_up(np.array(tokens)).tolist() == draft


def test_too_short_a_match_does_not_count() -> None:
    tokens = np.array([1, 2, 3, 1])
    assert PromptLookup(min_ngram=1).look_up(tokens).tolist() == [2, 3, 1]
    assert PromptLookup(min_ngram=2).look_up(tokens).tolist() == []


def test_lookup_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        tokens = rng.integers(0, 3, rng.integers(1, 30))
        lookup = PromptLookup(4, int(rng.integers(2, 5)), int(rng.integers(1, 3)))
        expected: list[int] = []
        for ngram in range(lookup.max_ngram, lookup.min_ngram - 1, -1):
            matches = [end for end in range(ngram, len(tokens)) if (tokens[end - ngram : end] == tokens[-ngram:]).all()]
            if matches:
                expected = tokens[matches[-1] : matches[-1] + 4].tolist()
                break
        assert lookup.look_up(tokens).tolist() == expected


# ---- Configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "speculative",
        "speculative:strategy=(sampling:temperature=0.8,top_p=0.95),proposer=(prompt_lookup:num_tokens=5)",
        "speculative:proposer=(draft_model:model=smollm2,num_tokens=2)",
    ],
)
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec
    assert parse(str(parse(spec))) == parse(spec)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Speculative(BeamSearch()), "strategy"),  # type: ignore[arg-type]
        (lambda: Speculative(proposer="prompt_lookup"), "proposer"),  # type: ignore[arg-type]
        (lambda: DraftModel(3), "model"),  # type: ignore[arg-type]
        (lambda: DraftModel("smollm2", 0), "num_tokens"),
        (lambda: PromptLookup(0), "num_tokens"),
        (lambda: PromptLookup(max_ngram=1, min_ngram=2), "max_ngram"),
        (lambda: PromptLookup(min_ngram=0), "min_ngram"),
    ],
)
def test_a_parameter_out_of_range_is_named(build: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{named}`"):
        build()


def test_a_draft_model_of_another_vocabulary_is_an_error() -> None:
    with pytest.raises(StrategyError, match=r"`speculative` .* vocabulary of 3 tokens"):
        TARGET.generate([0], Speculative(proposer=DraftModel(noise(1, vocab=4))), max_new_tokens=2)


def test_a_token_must_be_possible_in_the_distribution_that_comes_with_it() -> None:
    with pytest.raises(StrategyError, match="token 1 was drawn from"):
        Drafted(1, np.array([1.0, 0.0]))
