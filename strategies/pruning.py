"""Pruning: candidates that are beaten with confidence are not compared with all references."""

from __future__ import annotations

from collections.abc import Callable
from math import fsum

import numpy as np
from numpy.typing import NDArray

from ovdecode.random import Random
from ovdecode.sequence import Sequence

FIRST, BOOTSTRAPS = 8, 500
"""References seen before anything is pruned (twice as many in each further round); resamples of them."""


def prune(
    compare: Callable[[Sequence, Sequence], float],
    candidates: list[Sequence],
    references: list[Sequence],
    confidence: float,
    rng: Random,
) -> tuple[dict[Sequence, float], dict[Sequence, int]]:
    """Mean utility of each candidate over the references it saw, and how many it saw before it was dropped.

    Source: Cheng and Vlachos 2023, "Faster Minimum Bayes Risk Decoding with Confidence-based Pruning",
    arXiv:2311.14919, algorithm 1.

    Args:
        compare: the utility of a candidate if a reference is right.
        candidates: distinct; the best one is never dropped.
        references: in the order in which they are seen; they count the same.
        confidence: between 0 and 1; see `Mbr`.
        rng: makes the bootstrap samples.
    """
    alive, seen = candidates, 0
    utilities: dict[Sequence, list[float]] = {one: [] for one in candidates}
    while seen < len(references) and (len(alive) > 1 or seen == 0):
        upto = min(2 * seen or FIRST, len(references))
        for one in alive:
            utilities[one] += [compare(one, other) for other in references[seen:upto]]
        seen = upto
        if seen < len(references):
            table = np.array([utilities[one] for one in alive])  # (alive, seen)
            means = table @ _resamples(seen, rng).T / seen  # (alive, bootstraps)
            wins = (means >= means[table.mean(axis=1).argmax()]).mean(axis=1)
            alive = [one for one, share in zip(alive, wins, strict=True) if share > 1 - confidence]
    scores = {one: fsum(values) / len(values) for one, values in utilities.items()}
    return scores, {one: len(values) for one, values in utilities.items()}


def _resamples(count: int, rng: Random) -> NDArray[np.float64]:
    """How often each of `count` items is drawn in each bootstrap sample of as many, shape (bootstraps, count)."""
    uniform = np.exp(-np.exp(-rng.gumbel(BOOTSTRAPS * count)))  # the distribution function of the noise
    drawn = np.minimum((uniform * count).astype(np.intp), count - 1).reshape(BOOTSTRAPS, count)
    cells = drawn + count * np.arange(BOOTSTRAPS)[:, None]
    return np.bincount(cells.ravel(), minlength=BOOTSTRAPS * count).reshape(BOOTSTRAPS, count).astype(np.float64)
