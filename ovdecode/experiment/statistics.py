"""Statistics of methods that ran on the same prompts: how sure a mean is, and whether a difference is more than chance.

The unit is the prompt: samples of one prompt are averaged within it first. They resemble each other more than samples
of other prompts do, so counting them one by one would pretend to more evidence than there is. Methods are compared
prompt by prompt, which takes away how much prompts differ from each other.

A value that is NaN does not exist: its prompt is dropped, from both sides of a comparison, and counted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtr, ndtri, stdtrit

from ovdecode.experiment.resampling import ROUNDING, Floats, fewest_prompts, sign_flip_tests
from ovdecode.experiment.resampling import Estimate as Estimate
from ovdecode.experiment.resampling import bca_interval as bca_interval


def within_prompts(values: ArrayLike) -> Floats:
    """The mean of each prompt's samples that have a value: the last axis is averaged away. NaN where no sample has one.

    Example:
        >>> within_prompts([[1.0, 2.0], [np.nan, 5.0], [np.nan, np.nan]])
        array([1.5, 5. , nan])
    """
    samples = np.asarray(values, float)
    known = ~np.isnan(samples)
    count = known.sum(-1)
    total = np.where(known, samples, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def differences(a: ArrayLike, b: ArrayLike) -> Floats:
    """`a - b` by prompt: NaN where either is, and 0 where they differ by rounding only."""
    left, right = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(invalid="ignore"):
        apart = left - right
    close = np.abs(apart) <= ROUNDING * np.maximum(np.abs(left), np.abs(right))
    return np.where(close & np.isfinite(apart), 0.0, apart)


def paired_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of `a - b` by prompt, with its interval as `bca_interval` has it."""
    return bca_interval(differences(a, b), level, seed)


def permutation_test(a: ArrayLike, b: ArrayLike, seed: int = 0) -> float:
    """Two-sided p-value for `a` and `b` being exchangeable on every prompt, by the mean of their differences.

    Law: see `sign_flip_tests`. With few prompts that differ it is exact.

    Source: Fisher 1935, "The Design of Experiments", section 21; Phipson and Smyth 2010, "Permutation P-values Should
    Never Be Zero", on counting what was seen.

    Example:
        >>> permutation_test([2, 3, 4, 5, 6, 7], [1, 1, 1, 1, 1, 1])  # 2 of 64
        0.03125
    """
    return float(sign_flip_tests(differences(a, b)[None], seed)[0])


def holm(p_values: ArrayLike) -> Floats:
    """P-values adjusted so that the chance of any false finding among all of them stays at the level they are read at.

    NaN is no test, and stays NaN.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Example:
        >>> holm([0.01, 0.04, 0.03, 0.005])
        array([0.03, 0.06, 0.06, 0.02])
    """
    adjusted = np.array(p_values, float)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    raised = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return adjusted


def cohens_d(a: ArrayLike, b: ArrayLike) -> float:
    """The effect that the paired tests see, Cohen's d_z: the mean difference in standard deviations of differences.

    0 if nothing differs, infinite if all prompts differ alike, NaN for fewer than two.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", section 2.3.5.

    Example:
        >>> cohens_d([1, 2, 6], [0, 0, 3])  # differences 1, 2, 3
        2.0
    """
    apart = differences(a, b)
    apart = apart[~np.isnan(apart)]
    if len(apart) < 2 or not np.isfinite(apart).all():
        return math.nan
    largest = float(np.abs(apart).max())
    if not largest:
        return 0.0
    apart = np.ldexp(apart, -math.frexp(largest)[1])  # below 1, so that no square is too large
    mean = float(apart.mean())
    return math.copysign(math.inf, mean) if np.ptp(apart) <= ROUNDING else mean / float(apart.std(ddof=1))


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """How often a value of `a` is above one of `b`, less how often below, over all pairs of them: from -1 to 1.

    Unlike d it asks nothing of the metric's scale, and one outlier can't make it. NaN if either has no values.

    Source: Cliff 1993, "Dominance Statistics: Ordinal Analyses to Answer Ordinal Questions".

    Example:
        >>> cliffs_delta([1, 2, 3], [2, 2, 2])
        0.0
        >>> cliffs_delta([2, 3, 4], [1, 2, 1])  # 8 pairs above, 1 equal, none below
        0.8888888888888888
    """
    left, right = (values[~np.isnan(values)] for values in (np.asarray(a, float), np.asarray(b, float)))
    if not len(left) or not len(right):
        return math.nan
    ordered = np.sort(right)
    above = np.searchsorted(ordered, left, "left").sum()
    below = (len(ordered) - np.searchsorted(ordered, left, "right")).sum()
    return float(above - below) / (len(left) * len(right))


def win_matrix(values: ArrayLike) -> NDArray[np.int64]:
    """On how many prompts the method of the row has a higher value than that of the column, shape (methods, methods).

    Args:
        values: shape (methods, prompts).

    Example:
        >>> win_matrix([[1, 2, 3], [0, 2, 4]])
        array([[0, 1],
               [1, 0]])
    """
    rows = np.asarray(values, float)
    return np.array([(differences(row, rows) > 0).sum(1) for row in rows], np.int64)


def prompts_needed(effect: float, power: float = 0.8, level: float = 0.95) -> int | None:
    """How many prompts a paired comparison needs, to find an effect of this size as often as `power`.

    Law: the fewest at which a two-sided paired t-test has that power, and never fewer than `fewest_prompts`. What was
    seen on few prompts may be far from the true effect, and this number with it.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2.

    Args:
        effect: Cohen's d_z.
        power: the chance to find it.
        level: 1 less the chance to find what is not there.

    Returns:
        The number; None if no number will do, as there is no effect.

    Example:
        >>> prompts_needed(0.5)
        34
    """
    if math.isnan(effect) or effect == 0:
        return None
    fewest = fewest_prompts(level)
    if math.isinf(effect):
        return fewest
    tail = (1 - level) / 2
    wanted = (ndtri(1 - tail) + ndtri(power)) ** 2 / effect**2 + ndtri(1 - tail) ** 2 / 2
    n = max(fewest, math.ceil(wanted))
    if n > 100_000:  # where the approximation is exact in all digits that one plans by
        return n
    while _power(effect, n, tail) < power:
        n += 1
    while n > fewest and _power(effect, n - 1, tail) >= power:
        n -= 1
    return n


def _power(effect: float, n: int, tail: float) -> float:
    critical, shift = -stdtrit(n - 1, tail), abs(effect) * math.sqrt(n)
    return float(1 - nctdtr(n - 1, shift, critical) + nctdtr(n - 1, shift, -critical))


def pareto_front(x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other beats: none is as good in both and better in one. More is better; a NaN is no point.

    Example:
        >>> pareto_front([1, 2, 3, 1], [3, 2, 1, 1]).tolist()
        [True, True, True, False]
    """
    points = np.stack([np.asarray(x, float), np.asarray(y, float)], 1)  # (points, 2)
    known = ~np.isnan(points).any(1)
    as_good = (points[:, None] >= points).all(2)
    better = (points[:, None] > points).any(2)
    front: NDArray[np.bool_] = known & ~(as_good & better & known[:, None]).any(0)
    return front
