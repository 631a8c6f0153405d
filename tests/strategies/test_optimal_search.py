from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_tables import complete, noise, noise_model

from ovdecode import (
    AStarSearch,
    BeamSearch,
    ExactSearch,
    MaxTime,
    MinNewTokens,
    Model,
    StopTokens,
    SuppressedTokens,
    TableRunner,
    Temperature,
)
from ovdecode.errors import ConfigurationError, LogitsError

SEARCHES = [ExactSearch, AStarSearch]


def best_of_all(rows: Any, vocab: int, bound: int, power: float, count: int) -> list[tuple[tuple[int, ...], float]]:
    """By brute force: every sequence that ends with the last token or at the bound."""
    found = complete(rows, vocab, bound, eos=vocab - 1)
    scored = ((tokens, logprob / len(tokens) ** power) for tokens, logprob in found)
    return sorted(scored, key=lambda each: -each[1])[:count]


@pytest.mark.parametrize("search", SEARCHES)
@given(
    seed=st.integers(0, 10**6),
    vocab=st.integers(2, 4),
    bound=st.integers(1, 4),
    power=st.sampled_from([0.0, 0.7, 1.0, 2.0, -1.0]),
    count=st.integers(1, 3),
    batch=st.sampled_from([1, 3, 8]),
    spread=st.sampled_from([0.3, 1.5, 4.0]),
)
@settings(max_examples=80, deadline=None)
def test_equals_brute_force(
    search: Any, seed: int, vocab: int, bound: int, power: float, count: int, batch: int, spread: float
) -> None:
    expected = best_of_all(noise(seed, vocab, spread), vocab, bound, power, count)
    strategy = search(power, num_return_sequences=count, batch_size=batch)
    generation = noise_model(seed, vocab, spread).generate([0], strategy, max_new_tokens=bound)
    assert generation.info["proved"] == 1.0
    assert [each.score for each in generation.alternatives] == pytest.approx([score for _, score in expected], abs=1e-4)
    scores = [score for _, score in expected]
    if all(first - second > 1e-4 for first, second in itertools.pairwise(scores)):
        assert [each.tokens for each in generation.alternatives][:-1] == [tokens for tokens, _ in expected][:-1]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_beam_that_is_wide_enough_finds_the_same(search: Any, power: float) -> None:
    for seed in range(5):
        model = noise_model(seed, 4)
        proved = model.generate([0], search(power, num_return_sequences=5), max_new_tokens=4)
        wide = model.generate([0], BeamSearch(200, power, "never", 5), max_new_tokens=4)
        assert [each.tokens for each in proved.alternatives] == [each.tokens for each in wide.alternatives]


def test_greedy_and_narrow_beams_may_miss_what_exact_search_finds() -> None:
    rows = {(0,): np.log([0.05, 0.35, 0.6]), (0, 1): np.log([0.98, 0.01, 0.01]), (): np.log([0.4, 0.3, 0.3])}
    model = Model(TableRunner(rows))
    assert model.generate([0], "greedy", max_new_tokens=2).tokens == (2, 0)  # 0.24
    assert model.generate([0], "exact_search", max_new_tokens=2).tokens == (1, 0)  # 0.343
    assert model.generate([0], "a_star", max_new_tokens=2).tokens == (1, 0)


def test_a_star_asks_only_where_more_is_promised_than_the_answer_has() -> None:
    for seed in range(8):
        model, rows = noise_model(seed, 4), noise(seed, 4)
        generation = model.generate([0], AStarSearch(batch_size=1), max_new_tokens=4)
        answer = generation.score
        prefixes = {tokens[:end] for tokens, _ in complete(rows, 4, 4, eos=3) for end in range(len(tokens))}
        promising = 0
        for prefix in prefixes:
            logits = [rows((0, *prefix[:end])).astype(np.float64) for end in range(len(prefix))]
            total = sum(row[token] - np.log(np.exp(row).sum()) for row, token in zip(logits, prefix, strict=True))
            promising += total > answer + 1e-6
        assert generation.info["nodes"] == promising
        deep = model.generate([0], ExactSearch(batch_size=1), max_new_tokens=4)
        assert deep.info["nodes"] >= promising


@pytest.mark.parametrize("search", SEARCHES)
def test_without_enough_nodes_the_best_so_far_is_not_called_proved(search: Any) -> None:
    model = noise_model(3, 4, 0.3, eos=False)
    full = model.generate([0], search(), max_new_tokens=5)
    assert full.info["proved"] == 1.0
    assert full.cost.forwards < full.info["nodes"]  # several were asked about at once
    short = model.generate([0], search(max_nodes=8), max_new_tokens=5)
    assert short.info["proved"] == 0.0
    assert len(short.tokens) == 5
    assert short.score <= full.score


@pytest.mark.parametrize("search", SEARCHES)
def test_when_nodes_run_out_before_a_first_result_it_dives_for_one(search: Any) -> None:
    """A* alone would try every short sequence first: none of 4 ** 30 has an end."""
    model = noise_model(3, 4, 0.3, eos=False)
    generation = model.generate([0], search(max_nodes=10), max_new_tokens=30)
    assert len(generation.tokens) == 30
    assert generation.info["proved"] == 0.0
    assert generation.info["nodes"] <= 10 + 30


@pytest.mark.parametrize("search", SEARCHES)
def test_enough_nodes_are_enough(search: Any) -> None:
    for seed in range(6):
        model = noise_model(seed, 5)
        needed = int(model.generate([0], search(batch_size=1), max_new_tokens=4).info["nodes"])
        assert model.generate([0], search(batch_size=1, max_nodes=needed), max_new_tokens=4).info["proved"] == 1.0


@pytest.mark.parametrize("search", SEARCHES)
def test_processors_and_stops_inside(search: Any) -> None:
    model = noise_model(2, 5)
    generation = model.generate([0], search(processors=MinNewTokens(3)), max_new_tokens=4)
    assert len(generation.tokens) >= 3
    flat = model.generate([0], search(processors=Temperature(100.0)), max_new_tokens=2)
    assert flat.score == pytest.approx(np.log(0.2), abs=0.05)  # all tokens are alike, and ending at once takes but one
    assert flat.tokens == (4,)
    stopped = model.generate([0], search(), max_new_tokens=6, stop=StopTokens([[0], [1], [2], [3]]))
    assert len(stopped.tokens) == 1


@pytest.mark.parametrize("search", SEARCHES)
def test_a_dead_end_is_left_and_nothing_left_is_an_error(search: Any) -> None:
    rows = {(2,): np.log([0.6, 0.3, 0.1]), (0,): [-np.inf, -np.inf, 0.0], (1,): [-np.inf, 1.0, -np.inf]}
    strategy = search(processors=SuppressedTokens([2]))
    assert Model(TableRunner(rows)).generate([2], strategy, max_new_tokens=3).tokens == (1, 1, 1)
    with pytest.raises(LogitsError, match="leave no token possible"):
        Model(TableRunner({(): [0.0, 0.0]})).generate(
            [0], search(processors=SuppressedTokens([0, 1])), max_new_tokens=3
        )


@pytest.mark.parametrize("search", SEARCHES)
def test_a_score_that_favours_length_needs_a_bound(search: Any) -> None:
    model = noise_model(1, 3)
    with pytest.raises(ConfigurationError, match=f"`length_penalty` of `{search.name}` must be at most 0 without"):
        model.generate([0], search(1.0), max_new_tokens=None, stop=MaxTime(60.0))
    assert model.generate([0], search(), max_new_tokens=None, stop=MaxTime(60.0)).info["proved"] == 1.0


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("parameter", ["num_return_sequences", "max_nodes", "batch_size"])
def test_a_parameter_out_of_range_is_named(search: Any, parameter: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"`{parameter}` of `{search.name}` must be a whole number of at least"
    ):
        search(**{parameter: 0})


@pytest.mark.parametrize("search", SEARCHES)
def test_on_a_real_model(search: Any, model: Model) -> None:
    prompt = "one two three one two three one two"
    found = model.generate(prompt, search(max_nodes=100), max_new_tokens=2)
    assert found.info["proved"] == 1.0
    greedy = model.generate(prompt, "greedy", max_new_tokens=2)
    assert found.score == pytest.approx(found.logprob, abs=1e-3)
    assert found.logprob >= greedy.logprob - 1e-6
