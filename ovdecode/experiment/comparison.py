"""Comparisons of methods with a baseline, prompt by prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ovdecode.experiment.resampling import Estimate, Floats, bca_intervals, sign_flip_tests
from ovdecode.experiment.scores import Scores, higher_is_better
from ovdecode.experiment.statistics import cliffs_delta, cohens_d, differences, holm, prompts_needed


@dataclass(frozen=True)
class Comparison:
    """How one method differs from the baseline in one metric, over the prompts on which both have a value.

    Attributes:
        difference: mean of method less baseline.
        p: of the permutation test; NaN for no test.
        p_adjusted: by Holm's method, over all comparisons in this metric.
        effect: Cohen's d_z.
        delta: Cliff's delta.
        wins, ties, losses: on how many prompts the method is better, equal and worse; higher, equal and lower for a
            metric that has no better.
        prompts_needed: how many prompts would find such an effect four times of five; None if there is none.
    """

    difference: Estimate
    p: float
    p_adjusted: float
    effect: float
    delta: float
    wins: int
    ties: int
    losses: int
    prompts_needed: int | None


def compare(scores: Scores, baseline: int, level: float, seed: int) -> dict[str, dict[tuple[int, int], Comparison]]:
    """How each method on each model differs from the baseline on that model, by metric and (model, strategy)."""
    groups = [group for group in np.ndindex(len(scores.models), len(scores.strategies)) if group[1] != baseline]
    keys = [(metric, group) for metric in scores.metrics for group in groups]
    if not keys:
        return {}
    pairs = [(scores.metrics[metric][group], scores.metrics[metric][group[0], baseline]) for metric, group in keys]
    apart = np.array([differences(*pair) for pair in pairs])
    intervals = bca_intervals(apart, level, seed)
    p_values = sign_flip_tests(apart, seed)
    found: dict[str, dict[tuple[int, int], Comparison]] = {metric: {} for metric in scores.metrics}
    for (metric, group), pair, gap, interval, p in zip(keys, pairs, apart, intervals, p_values, strict=True):
        known = ~np.isnan(gap)
        better, effect = oriented(gap, metric), cohens_d(*pair)
        found[metric][group] = Comparison(
            interval,
            p=float(p),
            p_adjusted=math.nan,
            effect=effect,
            delta=cliffs_delta(pair[0][known], pair[1][known]),
            wins=int((better > 0).sum()),
            ties=int((better == 0).sum()),
            losses=int((better < 0).sum()),
            prompts_needed=prompts_needed(effect, level=level),
        )
    for of_metric in found.values():
        adjusted = holm([comparison.p for comparison in of_metric.values()])
        for (group, comparison), p in zip(list(of_metric.items()), adjusted, strict=True):
            of_metric[group] = replace(comparison, p_adjusted=float(p))
    return found


def oriented(values: Floats, metric: str) -> Floats:
    """Values of which more is better, unless the metric has no better."""
    return -values if higher_is_better(metric) is False else values
