"""Top-H and tail-free: cases with answers visible by eye, and the plain definitions as references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from ovdecode import Candidates, LogitsProcessor, TailFree, TopH, TopK, Vocabulary
from ovdecode.errors import ConfigurationError, LogitsError

ROOT = Vocabulary(4).root
SEVEN = [0.05, 0.3, 0.02, 0.25, 0.2, 0.1, 0.08]


def kept(processor: LogitsProcessor, probabilities: list[float]) -> list[int]:
    logits = np.log(np.array(probabilities, np.float32))
    return processor(Candidates(logits), ROOT).ids.tolist()


@pytest.mark.parametrize(("h", "count"), [(0.1, 1), (0.24, 1), (0.25, 2), (0.5, 4), (0.75, 8), (0.74, 7), (1.0, 16)])
def test_of_sixteen_equals_top_h_keeps_those_with_a_share_of_the_bits(h: float, count: int) -> None:
    assert kept(TopH(h), [1 / 16] * 16) == list(range(count))  # 4 bits; log2 of the count is at most 4·h


def test_top_h_takes_the_best_first() -> None:
    # Entropies of the renormalised best, in bits: 0, 0.92 (2/3, 1/3), 1.5, 1.75.
    halves = [0.125, 0.5, 0.25, 0.125]
    assert kept(TopH(0.5), halves) == [1]
    assert kept(TopH(0.53), halves) == [1, 2]
    assert kept(TopH(0.86), halves) == [0, 1, 2]
    assert kept(TopH(1.0), halves) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("h", "expected"), [(0.1, [1]), (0.3, [1]), (0.5, [1, 3]), (0.7, [1, 3, 4]), (0.9, [1, 3, 4, 5, 6])]
)
def test_rule_hf_keeps_what_transformers_keeps(h: float, expected: list[int]) -> None:
    # Recorded from `TopHLogitsWarper` of transformers 5.23.0, torch 2.13.0.
    assert kept(TopH(h, rule="hf"), SEVEN) == expected


@pytest.mark.parametrize(("h", "count"), [(0.3, 13), (0.9, 70), (0.95, 82)])
def test_rule_hf_looks_at_the_hundred_best(h: float, count: int) -> None:
    # Recorded from the same class, for 150 probabilities that fall by 3 % each.
    assert kept(TopH(h, rule="hf"), [0.97**i for i in range(150)]) == list(range(count))


def test_the_two_rules_differ() -> None:
    # In parts of H, renormalised: 0, 0.41, 0.64, 0.78; the running sum: 0.21, 0.42, 0.61, 0.75.
    assert kept(TopH(0.76), SEVEN) == [1, 3, 4]
    assert kept(TopH(0.76, rule="hf"), SEVEN) == [1, 3, 4, 5]


@pytest.mark.parametrize(("z", "expected"), [(0.2, [1]), (0.25, [1, 2]), (0.5, [0, 1, 2]), (0.75, [0, 1, 2, 3])])
def test_tail_free_adds_up_the_curvature(z: float, expected: list[int]) -> None:
    # 1/2, 1/4, 1/8, 1/8, 0, 0 is bent by 1/8 at each of four ranks.
    assert kept(TailFree(z), [0.125, 0.5, 0.25, 0.125]) == expected


def test_tail_free_drops_a_flat_tail_and_keeps_a_flat_top() -> None:
    assert kept(TailFree(0.9), [0.01] * 40 + [0.3, 0.3]) == [40, 41]
    assert kept(TailFree(0.9), [0.5, 0.5]) == [0, 1]
    assert kept(TailFree(1.0), [0.01] * 40 + [0.6]) == list(range(41))


def test_narrowed_candidates_keep_their_ids() -> None:
    narrow = TopK(3)(Candidates(np.log(np.array([0.125, 0.5, 0.25, 0.125], np.float32))), ROOT)
    assert TopH(0.7)(narrow, ROOT).ids.tolist() == [1, 2]  # 1.38 bits; the two best have 0.92
    assert TailFree(0.1)(narrow, ROOT).ids.tolist() == [1]


rows = st.builds(
    lambda seed, size, scale: (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32),
    st.integers(0, 1000),
    st.sampled_from([1, 4, 50, 1500]),
    st.sampled_from([0.05, 1.0, 3.0]),
)


@given(rows, st.floats(0.01, 0.99))
def test_top_h_equals_its_definition(row: np.ndarray, h: float) -> None:
    left = TopH(h)(Candidates(row), ROOT)
    count = len(left)
    falling = np.sort(np.exp(row.astype(np.float64) - float(row.max())))[::-1]
    assert count == 1 or entropy(falling[:count]) <= h * entropy(falling) * 1.0001
    assert count == len(row) or entropy(falling[: count + 1]) > h * entropy(falling) * 0.9999
    assert left.ids.tolist() == Candidates(row).top(count).ids.tolist()


@given(rows, st.floats(0.01, 0.99))
def test_tail_free_equals_its_definition(row: np.ndarray, z: float) -> None:
    exact = np.sort(np.exp(row.astype(np.float64) - float(row.max())))[::-1]
    falling = np.concatenate([exact, [0.0, 0.0]])
    curvature = np.abs(falling[:-2] - 2 * falling[1:-1] + falling[2:])
    sums = np.cumsum(curvature) / curvature.sum()
    counts = [np.count_nonzero(sums <= bound) + 1 for bound in (z * 0.999, z * 1.001)]
    left = TailFree(z)(Candidates(row), ROOT)
    assert counts[0] <= len(left) <= counts[1]
    assert left.ids.tolist() == Candidates(row).top(len(left)).ids.tolist()


def test_a_long_row_is_not_cut_where_the_first_look_ends() -> None:
    row = np.zeros(16**4, np.float32)
    assert len(TopH(0.75)(Candidates(row), ROOT)) == 16**3
    assert len(TopH(1.0)(Candidates(row), ROOT)) == 16**4


@pytest.mark.parametrize("processor", [TopH(0.5), TopH(0.5, rule="hf"), TailFree(0.5)], ids=str)
def test_nan_is_called_nan(processor: LogitsProcessor) -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        processor(Candidates(np.array([np.nan, 1, 2], np.float32)), ROOT)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopH(0.0), "`h` of `top_h` must be a number above 0 and at most 1, got 0.0"),
        (lambda: TopH(1.1), "`h`"),
        (lambda: TopH(rule="top_h"), "`rule` must be one of paper, hf, got 'top_h'"),
        (lambda: TailFree(0.0), "`z` of `tail_free` must be a number above 0 and at most 1, got 0.0"),
        (lambda: TailFree(1.1), "`z`"),
    ],
)
def test_configuration_errors_name_the_parameter(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
