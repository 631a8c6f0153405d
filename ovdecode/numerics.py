"""Softmax arithmetic on rows of logits: a few passes over a row, and no copy more than needed."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_STRIDE = 64
"""A sample of a row is every so many of its numbers."""
_LEAST_LOG = {kind: math.log(np.finfo(kind).tiny) for kind in (np.float32, np.float64)}


def logsumexp(logits: Floats) -> float:
    """Log of the sum of exponentials of a row, shape (n,); -inf entries count nothing, and have -inf if there are no
    others."""
    peak = logits.max()
    if peak == -np.inf:
        return -math.inf
    return float(peak) + math.log(total(exponentials(logits, peak)))


def exponentials(logits: Floats, base: Any, divisor: float = 1.0) -> Floats:
    """exp((logits - base) / divisor) of a row, shape (n,); the base, of the same type or 0, is near the largest.

    Numbers below the smallest that has all its digits take a processor ten times as long to make, and to use. Where a
    sample of the row finds any, they are 0, up to a rounding of that border.
    """
    powers = logits if base == 0 else logits - base
    if divisor != 1:
        inverse = powers.dtype.type(1 / divisor)  # takes half as long as a division
        powers = powers * inverse if powers is logits else np.multiply(powers, inverse, out=powers)
    least, sample = _LEAST_LOG[powers.dtype.type], powers[::_STRIDE]
    low = len(sample) > 0 and sample[sample.argmin()] < least
    if low and ((sample < least) & (sample > 1.25 * least)).any():  # beyond, exp is 0 at once
        below = powers - powers.dtype.type(least)
        np.minimum(below, 0, out=below)
        with np.errstate(over="ignore"):
            below *= 1e4
            powers = powers + below  # a mask would take longer
    exponentials: Floats = np.exp(powers, out=None if powers is logits else powers)
    return exponentials


def log_softmax(logits: Floats, total: float | None = None) -> Floats:
    """Normalised log-probabilities of a row, shape (n,) to shape (n,); a row of -inf stays as it is.

    Args:
        logits: shape (n,).
        total: their `logsumexp`, if known already.
    """
    total = logsumexp(logits) if total is None else total
    logprobs: Floats = logits - logits.dtype.type(0 if total == -math.inf else total)
    return logprobs


def total(values: Floats) -> float:
    """The sum of a row, shape (n,): in double precision at the price of a single-precision pass."""
    return float(_block_sums(values).sum(dtype=np.float64))


def weighted_sum(weights: Floats, values: Floats) -> float:
    """The sum of weights · values, both of shape (n,); a weight of 0 counts nothing, even times an infinite value."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = float(_block_sums(weights, values).sum(dtype=np.float64))
    if math.isfinite(found):
        return found
    counted = weights != 0
    return float(weights[counted].astype(np.float64) @ values[counted])


def top_indices(values: Floats, count: int) -> NDArray[np.intp]:
    """Where the `count` largest values are, in rising order of index; ties go to the lower index.

    Args:
        values: shape (n,).
        count: at least 1.

    On a long row a sparse sample gives a bound that more than `count` values reach almost surely, so that the exact
    selection runs over few; if fewer reach it, it runs over all.
    """
    if count >= len(values):
        return np.arange(len(values))
    sample = values[::_STRIDE]
    rank = len(sample) - count // _STRIDE - 5
    if rank > len(sample) // 2:
        likely = (values >= np.partition(sample, rank)[rank]).nonzero()[0]
        if count <= len(likely) < len(values):
            chosen: NDArray[np.intp] = likely[_top_indices(values[likely], count)]
            return chosen
    return _top_indices(values, count)


def falling_order(values: Floats) -> NDArray[np.intp]:
    """Positions by falling value, shape (n,) to shape (n,); equals keep their order."""
    if len(values) <= _SORTED_AT_ONCE or values.dtype != np.float32:
        order: NDArray[np.intp] = (-values).argsort(kind="stable")
        return order
    # A stable sort of a long row takes ten times as long as one of whole numbers with the position in their lower half.
    bits = (values + np.float32(0)).view(np.int32)  # -0 is 0
    rising = bits ^ (bits >> 31 & 0x7FFFFFFF)
    keys = (~rising).astype(np.int64) << 32 | np.arange(len(values))
    keys.sort()
    keys &= 0xFFFFFFFF
    order = keys.astype(np.intp, copy=False)
    return order


def _top_indices(values: Floats, count: int) -> NDArray[np.intp]:
    border = np.partition(values, len(values) - count)[len(values) - count]
    best: NDArray[np.intp] = (values >= border).nonzero()[0]
    if len(best) > count:
        kept = np.ones(len(best), bool)
        kept[(values[best] == border).nonzero()[0][count - len(best) :]] = False
        best = best[kept]
    return best


SHORT = 1024
"""Up to this length a plain sort, or a plain sum, takes less time than the calls that would avoid it."""
_SORTED_AT_ONCE = 192
_BLOCK = 256


def crossing(weights: Floats, target: float) -> int:
    """The first index at which the running sum of non-negative `weights` reaches `target`, else the last."""
    return _locate(weights, _block_sums(weights).cumsum(dtype=np.float64), target, "left")


def pick(weights: Floats, uniform: float) -> int:
    """The index at which the running sum of non-negative `weights` first exceeds `uniform` of their total."""
    sums = _block_sums(weights).cumsum(dtype=np.float64)
    index = _locate(weights, sums, uniform * float(sums[-1]), "right")
    while weights[index] == 0:  # rounding at the very end of a block may land on an impossible token
        index -= 1
    return index


def _block_sums(values: Floats, factors: Floats | None = None) -> Floats:
    """The sum of each block of a row, or of its products with another; in a short row each number is its own block.

    A block is summed in the precision of the row, but side by side in many registers, so it loses next to nothing.
    """
    size = len(values)
    if size <= SHORT:
        return values if factors is None else np.multiply(values, factors, dtype=np.float64)
    whole = size - size % _BLOCK
    columns = _ones(values.dtype) if factors is None else factors[:whole].reshape(-1, _BLOCK, 1)
    # A product of a row and a column for each block: several times as fast as a sum along an axis.
    sums: Floats = np.matmul(values[:whole].reshape(-1, 1, _BLOCK), columns).ravel()
    if whole < size:
        sums = np.append(sums, values[whole:].sum() if factors is None else values[whole:] @ factors[whole:])
    return sums


@cache
def _ones(kind: np.dtype[Any]) -> Floats:
    """A column of ones, as long as a block."""
    return np.ones((_BLOCK, 1), kind)


def _locate(weights: Floats, sums: NDArray[np.float64], target: float, side: Literal["left", "right"]) -> int:
    """Where the running sum comes to `target`: which block first, then where inside it."""
    block = min(int(sums.searchsorted(target, side)), len(sums) - 1)
    if len(sums) == len(weights):
        return block
    running = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    if block:
        running += sums[block - 1]
    return block * _BLOCK + min(int(running.searchsorted(target, side)), len(running) - 1)
