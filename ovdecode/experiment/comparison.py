"""Comparisons of methods with a baseline, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from ovdecode.experiment.resampling import Estimate, Floats, sign_flip_tests
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


Pairs = dict[tuple[str, int, int], tuple[Floats, Floats]]
"""By metric, model and strategy: the method's values by prompt, and the baseline's on that model."""


def pairs(scores: Scores, baseline: int) -> Pairs:
    """What is to be compared: each method on each model with the baseline, in each metric."""
    return {
        (metric, model, strategy): (values[model, strategy], values[model, baseline])
        for metric, values in scores.metrics.items()
        for model, strategy in np.ndindex(len(scores.models), len(scores.strategies))
        if strategy != baseline
    }


def compare(
    compared: Pairs, intervals: Items[Estimate], level: float, seed: int
) -> dict[tuple[str, int, int], Comparison]:
    """The comparisons of pairs, whose differences have these intervals."""
    found: dict[tuple[str, int, int], Comparison] = {}
    apart = [differences(*pair) for pair in compared.values()]
    p_values = sign_flip_tests(np.array(apart), seed) if apart else np.empty(0)
    adjusted = np.empty(len(apart))
    metrics = np.array([metric for metric, _, _ in compared])
    for metric in set(metrics.tolist()):
        adjusted[metrics == metric] = holm(p_values[metrics == metric])
    for place, ((metric, model, strategy), (values, others)) in enumerate(compared.items()):
        better, known = oriented(apart[place], metric), ~np.isnan(apart[place])
        effect = cohens_d(values, others)
        found[metric, model, strategy] = Comparison(
            intervals[place],
            p=float(p_values[place]),
            p_adjusted=float(adjusted[place]),
            effect=effect,
            delta=cliffs_delta(values[known], others[known]),
            wins=int((better > 0).sum()),
            ties=int((better == 0).sum()),
            losses=int((better < 0).sum()),
            prompts_needed=prompts_needed(effect, level=level),
        )
    return found


def oriented(values: Floats, metric: str) -> Floats:
    """Values of which more is better, unless the metric has no better."""
    return -values if higher_is_better(metric) is False else values
