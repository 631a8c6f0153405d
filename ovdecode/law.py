"""A distribution, of which something is known, and the rest is made when somebody asks for it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.blocks import Blocks
from ovdecode.errors import DeadEnd, LogitsError
from ovdecode.numerics import Floats, exponentials, falling_order, total, weighted_sum

_SINGLE = 1e-20, 1e20
"""Between these divisors, single precision holds the quotients of logits."""
_MODERATE = -20.0, 64.0
"""If the largest logit is between these, single precision holds the exponentials of all as they are."""


def bounded(divisor: float) -> float:
    """The divisor, moved to where double precision holds the quotient of every single-precision number.

    The distribution stays the same: beyond these bounds, the least difference is certainty, or the largest is none.
    """
    return min(max(divisor, 1e-250), 1e250)


class Law:
    """Logits, and what follows from them: each number is made once, in the way that takes the fewest passes.

    Args:
        logits: shape (n,); never written to. None if the weights alone are known: their logs are taken when asked for.
        divisor: what `logits` are still to be divided by. A temperature keeps their order, so the division waits until
            a value is asked for, and a truncation in between saves most of it.
        weights: proportional to the probabilities, if known already; a truncation need not compute them again.
        blocks: of a whole vocabulary, what is known of the undivided logits, if anything; then no weights are given.
    """

    def __init__(
        self,
        logits: Floats | None,
        *,
        divisor: float = 1.0,
        weights: Floats | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        self._known = logits
        self._divisor = divisor
        self._weights = weights
        self._blocks = blocks

    @property
    def _told(self) -> Blocks | None:
        """What is known of the blocks of `logits`, sums and all."""
        return self._blocks if self._divisor == 1 else None

    @property
    def _made(self) -> Floats | None:
        """The weights that the graph has made, if it has."""
        return None if self._told is None else self._told.weights

    @property
    def _undivided(self) -> Floats:
        """Logits before the division."""
        return self._logs if self._known is None else self._known

    @cached_property
    def _logs(self) -> Floats:
        """Logits, where the weights alone are known."""
        assert self._weights is not None
        with np.errstate(divide="ignore"):
            logs: Floats = np.log(self._weights)
        return logs

    @cached_property
    def logits(self) -> Floats:
        """Logits, shape (n,)."""
        logits: Floats = self._divided(self._undivided)
        return logits

    def _divided(self, logits: Any) -> Any:
        """Some of the undivided logits, an array or a number, as `logits` has them."""
        if self._divisor == 1:
            return logits
        if not _SINGLE[0] < self._divisor < _SINGLE[1]:
            return logits.astype(np.float64) / bounded(self._divisor)
        return logits / logits.dtype.type(self._divisor)

    @property
    def peaks(self) -> Floats | None:
        """Of a whole vocabulary, the largest of every few neighbouring logits, shape (blocks,), if known."""
        peaks: Floats | None = None if self._blocks is None else self._divided(self._blocks.peaks)
        return peaks

    def __len__(self) -> int:
        return len(self._undivided if self._weights is None else self._weights)

    @property
    def weights(self) -> Floats:
        """Proportional to `probabilities`, shape (n,); cheaper, because nothing is divided by their sum."""
        if self._weights is None:
            if self._made is not None:
                self._weights = self._made
            elif _SINGLE[0] < self._divisor < _SINGLE[1]:
                base = 0 if self._moderate else self._largest
                self._weights = exponentials(self._undivided, base, self._divisor)
            else:
                self._weights = exponentials(self.logits, self.logits.dtype.type(self.peak))
        return self._weights

    @property
    def _moderate(self) -> bool:
        """Whether `weights`, if they were not given, are the exponentials of the logits as they are."""
        return self._made is None and _MODERATE[0] <= self.peak < _MODERATE[1] and 0.5 <= self._divisor < _SINGLE[1]

    @cached_property
    def mass(self) -> float:
        """The sum of `weights`."""
        if self._told is not None:
            return math.exp(self.logsumexp) if self._moderate else float(self._told.sums.sum(dtype=np.float64))
        return total(self.weights)

    @cached_property
    def probabilities(self) -> Floats:
        """Normalised over what is left, shape (n,)."""
        # A double-precision divisor would take the whole row through a slow casting loop.
        probabilities: Floats = self.weights / self.weights.dtype.type(self.mass)
        return probabilities

    @cached_property
    def logsumexp(self) -> float:
        """Log of the sum of the logits' exponentials; `logprobs` are the logits less this."""
        peak = self.peak  # raises if there is no distribution
        if self._told is not None:
            return self._told.logsumexp
        return peak + math.log(self.mass / float(self.weights[self.weights.argmax()]))

    @cached_property
    def logprobs(self) -> Floats:
        """Log of `probabilities`, shape (n,)."""
        logprobs: Floats = self.checked - self.logits.dtype.type(self.logsumexp)
        return logprobs

    def mean(self, values: Floats) -> float:
        """The mean under `probabilities` of a number that each token has, shape (n,); of any where it is impossible."""
        return weighted_sum(self.weights, values) / self.mass

    @cached_property
    def entropy(self) -> float:
        """Shannon entropy of `probabilities`, in nats."""
        return max(self.logsumexp - self.mean(self.logits), 0.0)

    @cached_property
    def _argmax(self) -> int:
        """The position of the largest logit, the first of equals."""
        row = self._undivided
        return int(row.argmax()) if self._blocks is None else self._blocks.argmax(row)

    @cached_property
    def _largest(self) -> Any:
        """The largest logit before the division, of the logits' type."""
        return self._undivided[self._argmax] if self._blocks is None else self._blocks.largest

    @cached_property
    def peak(self) -> float:
        """The largest logit.

        Raises:
            DeadEnd: if no token is left: there is none, or all are -inf.
            LogitsError: if it is NaN or inf: then the logits are no distribution.
        """
        if len(self) == 0:
            raise DeadEnd(
                "no token is left possible: a constraint is at a dead end, or excludes all that another processor left"
            )
        peak = float(self._divided(self._largest))
        if math.isfinite(peak):
            return peak
        if peak == -math.inf:
            raise DeadEnd("`logits` must have a finite maximum; they are all -inf, so no token is left possible")
        raise LogitsError(f"`logits` must have a finite maximum; they are not numbers (largest: {peak})")

    @property
    def checked(self) -> Floats:
        """The logits, after making sure that they are a distribution."""
        self.peak  # noqa: B018  raises if they are none
        return self.logits

    def falling(self) -> NDArray[np.intp]:
        """Positions by falling logit, shape (n,); equals keep their order."""
        return falling_order(self._undivided)

    def above(self, bound: float) -> NDArray[np.intp]:
        """Positions, rising, of those whose logit is at least `bound`."""
        if self._blocks is not None:
            peaks = self._divided(self._blocks.peaks)
            blocks = (peaks >= bound).nonzero()[0]
            if 4 * len(blocks) <= len(peaks):
                return self._blocks.places(blocks, self._divided(self._blocks.rows(self._undivided, blocks)) >= bound)
        return (self.logits >= bound).nonzero()[0]
