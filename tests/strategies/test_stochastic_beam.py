from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats
from search_tables import complete, noise, noise_model

from ovdecode import Model, Random, StochasticBeamSearch, SuppressedTokens, TableRunner, Task, run
from ovdecode.errors import LogitsError
from ovdecode.generation import Generation
from ovdecode.strategies.stochastic_beam import given_maximum, log_inclusion

SAMPLES = 3000
LAW = {tokens: math.exp(logprob) for tokens, logprob in complete(noise(4, 3, 0.7), 3, 2, eos=2)}


@cache
def samples(num_beams: int) -> list[Generation]:
    model = noise_model(4, 3, 0.7)
    strategy = StochasticBeamSearch(num_beams)
    return list(run([Task(model, [0], strategy, max_new_tokens=2, sample=sample) for sample in range(SAMPLES)]))


def test_ordered_draws_follow_plackett_and_luce() -> None:
    """The first is drawn from the law, the second from what is left: all ordered pairs, by chi-square."""
    assert len(LAW) == 7
    counts = Counter(tuple(each.tokens for each in generation.alternatives) for generation in samples(2))
    expected = {
        (first, second): LAW[first] * LAW[second] / (1 - LAW[first]) for first, second in itertools.permutations(LAW, 2)
    }
    assert set(counts) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1.0)
    common = [pair for pair, probability in expected.items() if probability * SAMPLES >= 5]
    seen = [counts[pair] for pair in common]
    wanted = [expected[pair] * SAMPLES for pair in common]
    rest = SAMPLES - sum(seen), SAMPLES - sum(wanted)
    assert stats.chisquare([*seen, rest[0]], [*wanted, rest[1]]).pvalue > 1e-4


def test_the_chi_square_would_notice_draws_with_replacement() -> None:
    counts = Counter(generation.alternatives[1].tokens for generation in samples(2))
    seen, wanted = [counts[tokens] for tokens in LAW], [SAMPLES * probability for probability in LAW.values()]
    assert stats.chisquare(seen, wanted).pvalue < 1e-9


def test_the_report_holds_what_estimates_need() -> None:
    for generation in samples(2)[:50]:
        info = generation.info
        for index, each in enumerate(generation.alternatives):
            assert info[f"logprob_{index}"] == pytest.approx(math.log(LAW[each.tokens]), abs=1e-5)
            assert each.score > info["threshold"]
            excess = LAW[each.tokens] / math.exp(info["threshold"])
            assert info[f"inclusion_{index}"] == pytest.approx(1 - math.exp(-excess), rel=1e-4)
            weight = LAW[each.tokens] / info[f"inclusion_{index}"]
            assert math.exp(info[f"log_weight_{index}"]) == pytest.approx(weight, rel=1e-4)


@pytest.mark.parametrize("num_beams", [1, 2, 4])
def test_the_weighted_sum_is_an_unbiased_estimate(num_beams: int) -> None:
    """Of the probability of each sequence, within 4.5 standard errors."""
    found = {tokens: np.zeros(SAMPLES) for tokens in LAW}
    for row, generation in enumerate(samples(num_beams)):
        for index, each in enumerate(generation.alternatives):
            found[each.tokens][row] = math.exp(generation.info[f"log_weight_{index}"])
    for tokens, values in found.items():
        assert abs(values.mean() - LAW[tokens]) < 4.5 * values.std() / math.sqrt(SAMPLES) + 1e-9


def test_a_long_text_is_as_improbable_as_it_is() -> None:
    """The probability of 2,000 tokens, and of their inclusion, is no double; its logarithm is."""
    model = Model(TableRunner({(): [0.0, 0.0]}))
    generation = model.generate([0], StochasticBeamSearch(1), max_new_tokens=2000)
    info = generation.info
    assert info["logprob_0"] == pytest.approx(-2000 * math.log(2))
    assert info["inclusion_0"] == 0
    assert info["log_weight_0"] == pytest.approx(info["threshold"])  # p / (1 - exp(-p exp(-threshold))), for a small p


def test_the_log_of_an_inclusion_joins_its_limit() -> None:
    assert log_inclusion(-40 - 1e-9, 0.0) == pytest.approx(log_inclusion(-40 + 1e-9, 0.0), rel=1e-9)
    assert log_inclusion(0.0, -math.inf) == 0
    assert log_inclusion(math.log(0.5), 0.0) == pytest.approx(math.log(1 - math.exp(-0.5)))


@pytest.mark.parametrize("size", [1, 2])
def test_inclusion_probabilities_by_integration(size: int) -> None:
    """The chance that a sequence exceeds the `size`-th largest noisy sum of the others, integrated over that one's
    density, is its chance to be among the `size` first drawn without replacement."""
    law = np.array([0.5, 0.3, 0.15, 0.05])
    for item, probability in enumerate(law):
        others = [float(each) for place, each in enumerate(law) if place != item]

        def at_most(threshold: float, others: list[float] = others) -> float:
            """The chance that fewer than `size` of the others exceed the threshold."""
            exceeds = [math.exp(log_inclusion(math.log(each), threshold)) for each in others]
            chance = 0.0
            for above in itertools.product((False, True), repeat=len(others)):
                if sum(above) < size:
                    chance += math.prod(each if up else 1 - each for each, up in zip(exceeds, above, strict=True))
            return chance

        def density(threshold: float, probability: float = float(probability), at_most=at_most) -> float:
            slope = (at_most(threshold + 1e-5) - at_most(threshold - 1e-5)) / 2e-5
            return math.exp(log_inclusion(math.log(probability), threshold)) * slope

        integral = integrate.quad(density, -12, 25, limit=200)[0]
        drawn = 0.0
        for order in itertools.permutations(range(len(law)), size):
            chance, left = 1.0, 1.0
            for place in order:
                chance, left = chance * law[place] / left, left - law[place]
            drawn += chance * (item in order)
        assert integral == pytest.approx(drawn, abs=1e-6)


def test_noise_with_a_given_maximum() -> None:
    """With a maximum that has its own law, the variates are independent Gumbels at their locations."""
    locations = np.log([0.6, 0.3, 0.1])
    rows = []
    for sample in range(2000):
        rng = Random("noise", sample)
        maximum = float(rng.gumbel(1)[0])
        free = locations + rng.gumbel(3)
        order = np.argsort(-free)
        found = np.empty(3)
        found[order] = given_maximum(free[order], maximum)
        assert found[order[0]] == pytest.approx(maximum)
        assert np.argsort(-found).tolist() == order.tolist()
        rows.append(found - locations)
    columns = np.array(rows).T
    for column in columns:
        assert stats.kstest(column, "gumbel_r").pvalue > 1e-4
    assert np.abs(np.corrcoef(columns) - np.eye(3)).max() < 0.08


def test_all_sequences_if_there_are_no_more() -> None:
    generation = noise_model(4, 3, 0.7).generate([0], StochasticBeamSearch(20), max_new_tokens=2)
    assert {each.tokens for each in generation.alternatives} == set(LAW)
    assert generation.info["threshold"] == -math.inf
    weights = [math.exp(generation.info[f"log_weight_{index}"]) for index in range(len(LAW))]
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)  # without a threshold, the weights are the probabilities


def test_processors_shape_the_law_and_dead_ends_are_dropped() -> None:
    rows = {(2,): np.log([0.6, 0.3, 0.1]), (0,): [-np.inf, -np.inf, 0.0], (1,): [0.5, 1.0, -np.inf]}
    strategy = StochasticBeamSearch(3, processors=SuppressedTokens([2]))
    generation = Model(TableRunner(rows)).generate([2], strategy, max_new_tokens=2)
    assert sorted(each.tokens for each in generation.alternatives) == [(1, 0), (1, 1)]
    assert generation.info["logprob_0"] < math.log(1 / 3) + 1e-5


def test_no_token_left_is_an_error() -> None:
    with pytest.raises(LogitsError, match="`stochastic_beam` leave no token possible in any of its beams"):
        Model(TableRunner({(): [0.0, 0.0]})).generate(
            [0], StochasticBeamSearch(2, processors=SuppressedTokens([0, 1])), max_new_tokens=2
        )


def test_on_a_real_model(model: Model) -> None:
    generation = model.generate("Once upon a time", StochasticBeamSearch(4), max_new_tokens=6, seed=3)
    assert len({each.tokens for each in generation.alternatives}) == 4
    for index, each in enumerate(generation.alternatives):
        assert generation.info[f"logprob_{index}"] == pytest.approx(each.logprob, abs=1e-3)
    assert [each.score for each in generation.alternatives] == sorted(
        (each.score for each in generation.alternatives), reverse=True
    )
