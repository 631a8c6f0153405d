"""Thresholds: four-token cases with answers visible by eye, and the plain definitions as references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Candidates, Epsilon, Eta, LogitsProcessor, PLess, Temperature, TopA, TopK, TopNSigma, Vocabulary
from ovdecode.errors import ConfigurationError, LogitsError

ROOT = Vocabulary(4).root
HALVES = [0.125, 0.5, 0.25, 0.125]


def kept(processor: LogitsProcessor, probabilities: list[float]) -> list[int]:
    logits = np.log(np.array(probabilities, np.float32))
    return processor(Candidates(logits), ROOT).ids.tolist()


# What transformers 5.23.0 (torch 2.13.0) keeps of these four with its `EpsilonLogitsWarper` and `EtaLogitsWarper`.
# The entropy is 1.75 bits, so e^-H is 0.297, and 0.163 of epsilon 0.3, 0.230 of 0.6.


@pytest.mark.parametrize(("epsilon", "expected"), [(0.1, [0, 1, 2, 3]), (0.2, [1, 2]), (0.3, [1]), (0.6, [1])])
def test_epsilon_keeps_what_is_probable_enough(epsilon: float, expected: list[int]) -> None:
    assert kept(Epsilon(epsilon), HALVES) == expected


@pytest.mark.parametrize(("epsilon", "expected"), [(0.1, [0, 1, 2, 3]), (0.2, [1, 2]), (0.3, [1, 2]), (0.6, [1, 2])])
def test_eta_is_lower_where_the_entropy_is_high(epsilon: float, expected: list[int]) -> None:
    assert kept(Eta(epsilon), HALVES) == expected


@pytest.mark.parametrize("processor", [Epsilon(0.25), TopA(1.0), Epsilon(0.125)], ids=str)
def test_a_probability_at_the_threshold_is_kept(processor: LogitsProcessor) -> None:
    # TopA: 1 · 0.5² is 0.25.
    assert kept(processor, HALVES) == ([1, 2] if processor != Epsilon(0.125) else [0, 1, 2, 3])


@pytest.mark.parametrize("processor", [Epsilon(0.9), Eta(0.9), Eta(0.99)], ids=str)
def test_all_equals_of_the_best_are_kept_even_below_the_threshold(processor: LogitsProcessor) -> None:
    assert kept(processor, [0.4, 0.1, 0.4, 0.1]) == [0, 2]


@pytest.mark.parametrize(
    ("n", "expected"), [(0.2, [0]), (0.3, [0, 1]), (1.0, [0, 1]), (2.0, [0, 1, 3]), (2.3, [0, 1, 2, 3])]
)
def test_top_n_sigma_counts_in_standard_deviations(n: float, expected: list[int]) -> None:
    logits = np.array([9, 8, 1, 2], np.float32)  # mean 5, σ = sqrt(12.5) = 3.54: distances 0, 0.28, 2.26, 1.98
    assert TopNSigma(n)(Candidates(logits), ROOT).ids.tolist() == expected


def test_sigma_is_a_number_even_where_its_square_is_large() -> None:
    row = np.zeros(2000, np.float32)
    row[:2] = -1e30, 1
    assert len(TopNSigma(1.0)(Candidates(row), ROOT)) == 1999


def test_top_n_sigma_leaves_impossible_tokens_out_of_sigma() -> None:
    assert TopNSigma(1.0)(Candidates(np.array([2, 0, -np.inf, -np.inf], np.float32)), ROOT).ids.tolist() == [0]
    assert TopNSigma(2.0)(Candidates(np.array([2, 0, -np.inf, -np.inf], np.float32)), ROOT).ids.tolist() == [0, 1]


@pytest.mark.parametrize("temperature", [0.2, 3.0])
def test_top_n_sigma_keeps_the_same_at_any_temperature(temperature: float) -> None:
    logits = Candidates(np.random.default_rng(0).standard_normal(200).astype(np.float32))
    tempered = (Temperature(temperature) | TopNSigma(1.5))(logits, ROOT)
    assert tempered.ids.tolist() == TopNSigma(1.5)(logits, ROOT).ids.tolist()


def test_p_less_asks_how_often_two_draws_agree() -> None:
    assert kept(PLess(), [0.1, 0.5, 0.4]) == [1]  # 0.42
    assert kept(PLess(), HALVES) == [1]  # 11/32
    assert kept(PLess(), [0.25] * 4) == [0, 1, 2, 3]
    assert kept(PLess(), [0.3, 0.3, 0.3, 0.1]) == [0, 1, 2]  # 0.28


def test_top_a_is_stricter_where_the_model_is_sure() -> None:
    assert kept(TopA(0.2), [0.9, 0.08, 0.02]) == [0]  # 0.162
    assert kept(TopA(0.2), [0.4, 0.3, 0.2, 0.1]) == [0, 1, 2, 3]  # 0.032


def test_narrowed_candidates_keep_their_ids_and_count_for_all() -> None:
    narrow = TopK(2)(Candidates(np.log(np.array(HALVES, np.float32))), ROOT)  # 2/3 and 1/3, ids 1 and 2
    assert Epsilon(0.34)(narrow, ROOT).ids.tolist() == [1]
    assert Epsilon(0.33)(narrow, ROOT).ids.tolist() == [1, 2]
    assert PLess()(narrow, ROOT).ids.tolist() == [1]  # 5/9


logits = st.builds(
    lambda seed, size, scale: (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32),
    st.integers(0, 1000),
    st.sampled_from([1, 4, 50, 2000]),
    st.sampled_from([0.1, 1.0, 5.0, 300.0]),
)


@given(logits, st.floats(0.001, 0.999))
def test_each_equals_its_definition(row: np.ndarray, share: float) -> None:
    exact = np.exp(row.astype(np.float64) - float(row.max()))
    exact /= exact.sum()
    entropy = -float(sum(p * math.log(p) for p in exact if p > 0))
    definitions: list[tuple[LogitsProcessor, float]] = [
        (Epsilon(share), share),
        (Eta(share), min(share, math.sqrt(share) * math.exp(-entropy))),
        (PLess(), float((exact**2).sum())),
        (TopA(share), share * float(exact.max()) ** 2),
    ]
    for processor, threshold in definitions:
        left = set(processor(Candidates(row), ROOT).ids.tolist())
        assert {i for i, p in enumerate(exact) if p >= threshold * 1.0001} <= left, processor
        assert left <= {i for i, p in enumerate(exact) if p >= threshold * 0.9999 or p == exact.max()}, processor
        assert int(row.argmax()) in left


@pytest.mark.parametrize("processor", [Epsilon(0.5), Eta(0.5), TopNSigma(), PLess(), TopA()], ids=str)
def test_nan_is_called_nan(processor: LogitsProcessor) -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        processor(Candidates(np.array([np.nan, 1, 2], np.float32)), ROOT)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Epsilon(0.0), "`epsilon` of `epsilon` must be a number between 0 and 1, both excluded, got 0.0"),
        (lambda: Epsilon(1.0), "`epsilon`"),
        (lambda: Eta(-0.1), "`epsilon` of `eta`"),
        (lambda: TopNSigma(0.0), "`n` of `top_n_sigma` must be a finite number above 0"),
        (lambda: TopNSigma(math.inf), "`n`"),
        (lambda: TopA(0.0), "`a` of `top_a` must be a number above 0 and at most 1"),
        (lambda: TopA(1.5), "`a`"),
    ],
)
def test_configuration_errors_name_the_parameter(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
