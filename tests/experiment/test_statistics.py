"""Statistics against scipy, published examples, definitions and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.experiment.resampling import MOST_EXACT, bca_intervals, fewest_prompts, sign_flip_tests
from ovdecode.experiment.statistics import (
    bca_interval,
    cliffs_delta,
    cohens_d,
    holm,
    paired_interval,
    pareto_front,
    permutation_test,
    prompts_needed,
    win_matrix,
    within_prompts,
)

MICE = [52, 104, 146, 10, 51, 30, 40, 27, 46]
"""Survival of the control group, Efron and Tibshirani 1993, table 2.1."""
BOOT = [10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213]
"""What scipy's own tests give to R's package boot."""
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Darwin's differences in eighths of an inch, Fisher 1935, section 21."""


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("sample", [MICE, BOOT])
def test_bca_is_scipys_for_the_same_draws(sample, level):
    interval = bca_interval(sample, level, seed=5)
    peer = scipy.stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=10_000,
        confidence_level=level,
        method="BCa",
        random_state=np.random.default_rng(5),
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((peer.low, peer.high), abs=1e-9)
    assert interval.value == pytest.approx(np.mean(sample))
    assert (interval.n, interval.dropped, interval.reason) == (len(sample), 0, "")


def test_bca_agrees_with_r(monkeypatch):
    monkeypatch.setattr("ovdecode.experiment.resampling._draws", lambda n: 1_000_000)  # as many as R drew
    interval = bca_interval(BOOT)
    assert (interval.low, interval.high) == pytest.approx((32.31, 91.43), rel=0.005)


def test_rows_with_the_same_gaps_share_draws_and_others_do_not_disturb_them():
    rows = np.array([BOOT, np.sqrt(BOOT), BOOT])
    rows[2, 3] = math.nan
    found = bca_intervals(rows, seed=1)
    for row, alone in zip(found, (BOOT, np.sqrt(BOOT), BOOT[:3] + BOOT[4:]), strict=True):
        expected = bca_interval(alone, seed=1)
        assert (row.value, row.low, row.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert [(row.n, row.dropped) for row in found] == [(16, 0), (16, 0), (15, 1)]


def test_draws_that_come_in_many_blocks_say_the_same(monkeypatch):
    whole, flips = bca_interval(MICE), permutation_test(BOOT * 2, [40] * 32)
    monkeypatch.setattr("ovdecode.experiment.resampling._BLOCK", 1000)
    blocks = bca_interval(MICE)
    assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high), rel=0.03)
    assert permutation_test(BOOT * 2, [40] * 32) == pytest.approx(flips, abs=0.02)


def test_a_binary_metric_has_the_interval_of_its_counts():
    """Resamples of 0 and 1 are binomial, so that their quantiles are known."""
    interval = bca_interval([0] * 20 + [1] * 20)
    low, high = scipy.stats.binom.ppf([0.025, 0.975], 40, 0.5) / 40
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1 / 40)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no values"),
        ([math.nan, math.nan], "no values"),
        ([1.0], "fewer than 6 prompts"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, math.nan], "fewer than 6 prompts"),
        ([0.1] * 9, "all values are equal"),
        ([0.1 + 0.2, 0.3] * 4, "all values are equal"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, math.inf], "a value is infinite"),
    ],
)
def test_an_interval_that_cannot_be_computed_says_why(values, reason):
    interval = bca_interval(values)
    assert (interval.low, interval.high, interval.reason) == (None, None, reason)
    known = [value for value in values if not math.isnan(value)]
    assert interval.n == len(known)
    assert interval.dropped == len(values) - len(known)
    assert interval.value == pytest.approx(np.mean(known)) if known else math.isnan(interval.value)


def test_large_values_scale():
    """The cube of a perplexity of 1e180 is no number, and once was no interval either."""
    large = 2.0**600
    small, huge = bca_interval(MICE), bca_interval(np.array(MICE) * large)
    assert (huge.low / large, huge.high / large) == (small.low, small.high)
    assert cohens_d(np.array(MICE) * large, np.zeros(9)) == pytest.approx(cohens_d(MICE, np.zeros(9)))


def test_the_fewest_prompts_are_those_with_which_a_test_can_say_something():
    fewest = fewest_prompts(0.95)
    assert permutation_test(range(1, fewest + 1), [0] * fewest) <= 0.05
    assert permutation_test(range(1, fewest), [0] * (fewest - 1)) > 0.05
    assert [fewest_prompts(level) for level in (0.8, 0.9, 0.95, 0.99)] == [4, 5, 6, 8]


def test_intervals_hold_the_mean_about_as_often_as_they_say():
    """Skewed values, few prompts: the hard case. The bounds are four standard errors of 500 runs around 0.92."""
    values = np.random.default_rng(0).exponential(size=(500, 30))
    held = np.mean([one.low <= 1.0 <= one.high for one in bca_intervals(values)])
    assert 0.87 <= held <= 0.97


def test_samples_of_one_prompt_count_once():
    """Counted one by one, ten samples that resemble each other would make the interval three times too narrow."""
    prompts = np.random.default_rng(0).normal(size=(200, 20, 1))
    samples = prompts + 0.01 * np.random.default_rng(1).normal(size=(200, 20, 10))

    def coverage(rows):
        return np.mean([one.low <= 0.0 <= one.high for one in bca_intervals(rows)])

    assert coverage(within_prompts(samples)) >= 0.85
    assert coverage(samples.reshape(200, 200)) <= 0.6


def test_prompts_without_a_value_are_dropped_from_both_sides():
    a, b = [1.0, 2.0, math.nan, 4.0, 5.0, 6.0, 7.0, 9.0], [0.0, 2.0, 3.0, math.nan, 1.0, 1.0, 1.0, 1.0]
    interval = paired_interval(a, b)
    assert (interval.n, interval.dropped) == (6, 2)
    assert interval.value == pytest.approx((1 + 0 + 4 + 5 + 6 + 8) / 6)
    assert permutation_test(a, b) == permutation_test([1, 2, 5, 6, 7, 9], [0, 2, 1, 1, 1, 1])


def test_fishers_maize():
    assert permutation_test(MAIZE, [0] * 15) == 1726 / 32768


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
def test_flips_are_all_flips(apart):
    sums = [abs(np.dot(signs, apart)) for signs in itertools.product((1, -1), repeat=len(apart))]
    assert permutation_test(apart, [0] * len(apart)) == np.mean(np.array(sums) >= abs(sum(apart)))


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, -0.1, -0.2, -0.3]), min_size=1, max_size=9))
def test_rounding_breaks_no_ties(apart):
    assert permutation_test(apart, [0] * len(apart)) == permutation_test(
        [round(10 * gap) for gap in apart], [0] * len(apart)
    )


def test_the_exact_test_is_scipys():
    apart = np.random.default_rng(3).normal(0.3, 1, 12)
    peer = scipy.stats.permutation_test((apart,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert permutation_test(apart, np.zeros(12)) == pytest.approx(peer.pvalue)


def test_random_flips_come_near_all_flips(monkeypatch):
    apart = np.random.default_rng(3).normal(0.4, 1, MOST_EXACT)[None]
    exact = sign_flip_tests(apart)[0]
    monkeypatch.setattr("ovdecode.experiment.resampling.MOST_EXACT", 4)
    drawn = sign_flip_tests(apart)[0]
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))


def test_random_flips_are_never_impossible():
    assert permutation_test(range(1, 41), [0] * 40) == 1 / 10_001


def test_where_nothing_differs_nothing_is_found():
    """500 comparisons of equal methods: p is at most 0.05 in at most 5 % of them, but for four standard errors."""
    apart = np.random.default_rng(0).normal(size=(500, 20))
    assert np.mean(sign_flip_tests(apart) <= 0.05) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize(
    ("a", "p"), [([], math.nan), ([math.nan], math.nan), ([1.0], 1.0), ([0.0] * 30, 1.0), ([math.inf], math.nan)]
)
def test_degenerate_tests(a, p):
    assert permutation_test(a, [0.0] * len(a)) == pytest.approx(p, nan_ok=True)


def test_holm_in_published_examples():
    assert holm([0.5, 0.003, 0.32, 0.054, 0.0003]) == pytest.approx([0.64, 0.012, 0.64, 0.162, 0.0015])  # pingouin's
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Wikipedia's: H1 and H4 fall


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_his_steps_reject(p_values, level):
    rejected = [False] * len(p_values)
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - step) > level:
            break
        rejected[place] = True
    assert (holm(p_values) <= level).tolist() == rejected


def test_holm_passes_over_what_was_not_tested():
    assert holm([0.02, math.nan, 0.5]) == pytest.approx([0.04, math.nan, 0.5], nan_ok=True)


def test_cohens_d():
    assert cohens_d(MAIZE, [0] * 15) == pytest.approx(2.148 / math.sqrt(15), abs=1e-3)  # Fisher's t is 2.148
    assert cohens_d([3, 3], [1, 1]) == math.inf
    assert cohens_d([1, 1], [3, 3]) == -math.inf
    assert cohens_d([1, 2], [1, 2]) == 0
    assert math.isnan(cohens_d([1], [0]))
    assert math.isnan(cohens_d([1, math.inf], [0, 0]))


def test_cliffs_delta_of_hogarty_and_kromrey():
    """The example of R's package effsize."""
    treatment = [10, 10, 20, 20, 20, 30, 30, 30, 40, 50]
    assert cliffs_delta(treatment, [10, 20, 30, 40, 40, 50]) == -0.25


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_cliffs_delta_is_the_mean_sign_of_all_pairs(a, b):
    assert cliffs_delta([*a, math.nan], b) == pytest.approx(np.mean(np.sign(np.subtract.outer(a, b))))


def test_cliffs_delta_of_nothing():
    assert math.isnan(cliffs_delta([], [1]))


def test_win_matrix_leaves_out_what_is_missing():
    assert win_matrix([[1, 2, 3], [0, 2, math.nan], [5, 0.1 + 0.2, 9]]).tolist() == [[0, 1, 1], [0, 0, 1], [2, 1, 0]]
    assert win_matrix([[0.3], [0.1 + 0.2]]).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("effect", "prompts"), [(0.2, 199), (0.5, 34), (0.8, 15), (-0.5, 34), (1.5, 6)])
def test_prompts_needed_are_g_powers(effect, prompts):
    """Paired t-test, two-sided, power 0.8, as G*Power 3.1 has it."""
    assert prompts_needed(effect) == prompts


def test_prompts_needed_at_the_ends():
    assert prompts_needed(0.0) is prompts_needed(math.nan) is None
    assert prompts_needed(math.inf) == prompts_needed(9.0) == 6
    assert prompts_needed(0.001) == 7_848_882
    assert prompts_needed(0.5, power=0.95, level=0.99) == 75


def test_so_many_prompts_find_the_effect_so_often():
    apart = np.random.default_rng(0).normal(0.5, 1, (500, prompts_needed(0.5)))
    found = np.mean(sign_flip_tests(apart) <= 0.05)
    assert found == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 500))


def test_the_front_has_every_point_that_none_beats():
    x, y = [1, 2, 3, 1, 3, math.nan], [3, 2, 1, 1, 1, 9]
    assert pareto_front(x, y).tolist() == [True, True, True, False, True, False]
    assert pareto_front([], []).tolist() == []
