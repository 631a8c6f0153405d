"""What a graph says of the blocks that a row of logits consists of, so that most of the row need not be read."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.numerics import Floats, top_indices

_NEAR = 14.0
"""Sums made beside one largest logit hold their digits beside another that is so near."""
_SLACK = 1 + 1e-5
"""For what single precision takes from a bound."""
_TINY = 1e-30
"""A sum of less may have been rounded to nothing."""


class Blocks:
    """Blocks of neighbouring logits, all of one size.

    Args:
        peaks: the largest logit of each, shape (blocks,).
        sums: the sum of exp(logit - largest of all) over each, shape (blocks,).
        weights: these exponentials, shape (blocks · size,), if they are known.
        base: beside which logit the sums were first made, with smaller ones rounded to nothing; None for the largest.
    """

    def __init__(
        self, peaks: Floats, sums: Floats, weights: Floats | None = None, base: np.floating[Any] | None = None
    ) -> None:
        self.peaks, self.sums, self.weights = peaks, sums, weights
        self._base = base

    def rows(self, row: Floats, blocks: NDArray[np.intp]) -> Floats:
        """Some blocks of a row, shape (vocab,) to shape (blocks, size)."""
        rows: Floats = row.reshape(len(self.peaks), -1).take(blocks, axis=0)
        return rows

    def places(self, blocks: NDArray[np.intp], mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Where in a row `mask` holds, shape (blocks, size) over some of its blocks, shape (blocks,)."""
        size = mask.shape[1]
        found = mask.ravel().nonzero()[0]  # along two axes, it takes eight times as long
        places: NDArray[np.intp] = ((blocks - np.arange(len(blocks))) * size).take(found // size) + found
        return places

    def argmax(self, row: Floats) -> int:
        """Where the largest logit of the row is, the first of equals."""
        size = len(row) // len(self.peaks)
        begin = int(self.peaks.argmax()) * size
        return begin + int(row[begin : begin + size].argmax())

    def top(self, row: Floats, count: int) -> NDArray[np.intp]:
        """Where the `count` largest logits of the row are, as `top_indices` finds them.

        They are in blocks whose peak is among the `count` largest peaks, and not below it.
        """
        if 4 * count > len(self.peaks):
            return top_indices(row, count)
        bound = np.partition(self.peaks, len(self.peaks) - count)[len(self.peaks) - count]
        blocks = (self.peaks >= bound).nonzero()[0]
        few = self.places(blocks, self.rows(row, blocks) >= bound)
        return few[top_indices(row[few], count)]

    @property
    def largest(self) -> Any:
        """The largest logit of all, of the logits' type."""
        return self.peaks[self.peaks.argmax()]  # of a short row, `max` takes three times as long

    @property
    def base(self) -> Any:
        """Beside which logit the sums were first made."""
        return self.largest if self._base is None else self._base

    @cached_property
    def logsumexp(self) -> float:
        """Log of the sum of the exponentials of all logits."""
        return float(self.largest) + math.log(self.sums.sum(dtype=np.float64))

    def shifted(self, amount: float) -> Blocks:
        """Those of a row to which a number was added."""
        more = self.peaks.dtype.type(amount)
        return Blocks(self.peaks + more, self.sums, self.weights, self.base + more)

    def replaced(self, row: Floats, places: NDArray[np.intp]) -> Blocks | None:
        """Those of a row that differs at some places; None if to find them takes as long as to read the row."""
        if 4 * len(places) > len(self.sums):
            return None
        blocks = places // (len(row) // len(self.sums))
        near = self.rows(row, blocks)  # (places, size)
        peaks = self.peaks.copy()
        peaks[blocks] = near.max(axis=1)
        largest = peaks[peaks.argmax()]
        if not abs(largest - self.base) < _NEAR:
            return None
        sums = self.sums * np.exp(self.largest - largest)
        sums[blocks] = np.exp(near - largest).sum(axis=1)
        return Blocks(peaks, sums, base=self.base)

    def bounds(self, divisor: float, size: int) -> Floats:
        """For each block a number that is at least its sum of exp((logit - largest of all) / divisor), shape (blocks,).

        With x = exp(logit - largest of all) that is the sum of x^(1 / divisor). If the power is at least 1, x^power is
        at most x times the power less 1 of the block's largest x. If it is below 1, the mean of the powers of all x but
        the largest is at most the power of their mean.

        Args:
            divisor: above 0.
            size: how many logits a block has.
        """
        if divisor == 1:
            return self.sums
        power, sums = 1 / divisor, self.sums.astype(np.float64)
        distances = (self.peaks - self.largest).astype(np.float64)
        if power >= 1:
            bounds: Floats = sums * np.exp((power - 1) * distances)
        else:
            others = np.maximum(_SLACK * sums - np.exp(distances), _TINY * (distances > -np.inf))
            bounds = np.exp(power * distances) + (size - 1) ** (1 - power) * others**power
        bounds *= _SLACK
        return bounds
