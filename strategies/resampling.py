"""Resampling: particles are continued in proportion to their weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovdecode.random import Random

Resampling = Literal["systematic", "multinomial"]


def resample(weights: NDArray[np.float64], method: Resampling, rng: Random) -> list[int]:
    """Which particle each of N new ones continues; particle i has N · weights[i] of them on average.

    Source: Douc, Cappé, Moulines 2005, "Comparison of Resampling Schemes for Particle Filtering",
    arXiv:cs/0507025.

    Args:
        weights: shape (N,), with the sum 1.
        method: see `Smc`.
        rng: makes one choice, or N.
    """
    if method == "multinomial":
        return [rng.choose(weights) for _ in weights]
    # N points with the distance 1 and a common offset in [0, 1) fall into intervals as long as N · weights. What is
    # chosen is between which borders the offset lies: all offsets there lead to the same, so the choice is discrete.
    ends = len(weights) * weights.cumsum()
    borders = np.unique(np.concatenate([[0.0, 1.0], ends[:-1] % 1.0]))
    place = rng.choose(np.diff(borders))
    points = borders[place : place + 2].mean() + np.arange(len(weights))
    origins = np.minimum(ends.searchsorted(points, side="right"), np.flatnonzero(weights)[-1])
    return [int(origin) for origin in origins]
