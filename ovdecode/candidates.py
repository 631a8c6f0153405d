"""What is still possible as the next token: ids with their logits, narrower after each truncation."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.blocks import Blocks
from ovdecode.errors import DeadEnd, LogitsError
from ovdecode.numerics import (
    Floats,
    exponentials,
    falling_order,
    logsumexp,
    top_indices,
    total,
    weighted_sum,
)

if TYPE_CHECKING:
    from ovdecode.random import Chooser
    from ovdecode.sequence import Sequence

Mask = NDArray[np.bool_]
_SINGLE = 1e-20, 1e20
"""Between these divisors, single precision holds the quotients of logits."""
_MODERATE = -20.0, 64.0
"""If the largest logit is between these, single precision holds the exponentials of all as they are."""
_FEW = 512
_LEAST = 1e-30
"""Below this weight, single precision has few digits left."""


def _bounded(divisor: float) -> float:
    """The divisor, moved to where double precision holds the quotient of every single-precision number.

    The distribution stays the same: beyond these bounds, the least difference is certainty, or the largest is none.
    """
    return min(max(divisor, 1e-250), 1e250)


class Candidates:
    """Token ids with their logits; every method returns new candidates and leaves these as they were.

    Args:
        logits: shape (n,); never written to. None if the weights alone are known: their logs are taken when asked for.
        ids: the token id of each, shape (n,), rising; None while all tokens of the vocabulary are there.
        divisor: what `logits` are still to be divided by. A temperature keeps the order of the tokens, so the division
            waits until a value is asked for, and a truncation in between saves most of it.
        weights: proportional to their probabilities, if known already; a truncation need not compute them again.
        blocks: of a whole vocabulary, what is known of the undivided logits, if anything; then no weights are given.
    """

    def __init__(
        self,
        logits: Floats | None,
        ids: NDArray[np.intp] | None = None,
        divisor: float = 1.0,
        weights: Floats | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        self._known = logits
        self._ids = ids
        self._divisor = divisor
        self._weights = weights
        self._blocks = blocks

    @classmethod
    def after(cls, sequence: Sequence, logits: NDArray[np.float32]) -> Candidates:
        """All tokens, with the logits that a strategy was sent for the one after `sequence`, shape (vocab,)."""
        told = sequence.told(logits)
        if told is None or told.blocks is None:
            return cls(logits)
        peaks, sums = told.blocks
        return cls(logits, blocks=Blocks(peaks, sums, told.weights))

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
            return logits.astype(np.float64) / _bounded(self._divisor)
        return logits / logits.dtype.type(self._divisor)

    @property
    def peaks(self) -> Floats | None:
        """Of a whole vocabulary, the largest of every few neighbouring logits, shape (blocks,), if known."""
        peaks: Floats | None = None if self._blocks is None else self._divided(self._blocks.peaks)
        return peaks

    @property
    def dense(self) -> bool:
        """Whether position i is still token i, for every token of the vocabulary."""
        return self._ids is None

    @cached_property
    def ids(self) -> NDArray[np.intp]:
        """Token ids, rising, shape (n,)."""
        return np.arange(len(self.logits)) if self._ids is None else self._ids

    def __len__(self) -> int:
        return len(self._undivided if self._weights is None else self._weights)

    @cached_property
    def probabilities(self) -> Floats:
        """Normalised over what is left, shape (n,)."""
        # A double-precision divisor would take the whole row through a slow casting loop.
        probabilities: Floats = self.weights / self.weights.dtype.type(self.mass)
        return probabilities

    def probabilities_of(self, tokens: NDArray[Any]) -> Floats:
        """Of these token ids, shape (n,): 0 for those that are no candidates."""
        places = tokens if self._ids is None else np.minimum(self._ids.searchsorted(tokens), len(self._ids) - 1)
        if self._known is None or 4 * len(tokens) > len(self):
            found = self.probabilities[places]
        else:
            logprobs = self._divided(self._known[places]).astype(np.float64) - self.logsumexp
            found = np.exp(logprobs).astype(self._known.dtype)
        probabilities: Floats = found if self._ids is None else np.where(self._ids[places] == tokens, found, 0.0)
        return probabilities

    @cached_property
    def logprobs(self) -> Floats:
        """Log of `probabilities`, shape (n,)."""
        logprobs: Floats = self.checked - self.logits.dtype.type(self.logsumexp)
        return logprobs

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
    def logsumexp(self) -> float:
        """Log of the sum of the logits' exponentials; `logprobs` are the logits less this."""
        peak = self.peak  # raises if there is no distribution
        if self._told is not None:
            return self._told.logsumexp
        return peak + math.log(self.mass / float(self.weights[self.weights.argmax()]))

    def mean(self, values: Floats) -> float:
        """The mean under `probabilities` of a number that each token has, shape (n,); of any where it is impossible."""
        return weighted_sum(self.weights, values) / self.mass

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

    @cached_property
    def entropy(self) -> float:
        """Shannon entropy of `probabilities`, in nats."""
        return max(self.logsumexp - self.mean(self.logits), 0.0)

    def argmax(self) -> int:
        """The most probable token; the lowest id among equals."""
        if len(self) == 0 or not math.isfinite(self._undivided[self._argmax]):
            self.peak  # noqa: B018  raises, and says why
        return self.token(self._argmax)

    def token(self, position: int) -> int:
        """The token id at a position."""
        return position if self._ids is None else int(self._ids[position])

    def tokens(self, positions: NDArray[np.intp]) -> NDArray[np.intp]:
        """The token ids at some positions, shape (n,) to shape (n,)."""
        return positions if self._ids is None else self._ids[positions]

    def draw(self, rng: Chooser) -> int:
        """A token at random, each with its probability."""
        if self._blocks is None or (self._told is None and rng.ordered):
            return self.token(rng.choose(self.weights))
        self.peak  # noqa: B018  raises if there is no distribution
        size, peaks = len(self) // len(self._blocks.peaks), self._blocks.peaks
        bounds = self._blocks.bounds(_bounded(self._divisor), size)
        block = rng.choose(bounds)
        near = self._undivided[block * size : (block + 1) * size]
        weights = np.exp(self._divided(near - peaks[block]))
        if self._told is None:
            # What was chosen by a bound on its weight is rejected as often as the bound is too high.
            weight = float(weights.sum()) * math.exp(self._divided(peaks[block] - self._largest))
            if rng.choose(np.array([weight, max(bounds[block] - weight, 0.0)])):
                return rng.choose(self.weights)
        return block * size + rng.choose(weights)

    def top(self, count: int) -> Candidates:
        """The `count` most probable, ties to the lower id; all if there are fewer."""
        if count >= len(self):
            return self
        if count == 1:
            return self.at(np.array([self._argmax]))
        row = self._undivided
        return self.at(top_indices(row, count) if self._blocks is None else self._blocks.top(row, count))

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

    def likely(self, share: float, surprise: float = 0.0) -> Candidates:
        """All that are more probable than a bound, low enough that they have a share of the mass.

        Args:
            share: of the mass, above 0 and below 1; up to rounding, they have at least that together.
            surprise: the bound on -log p is at least this.
        """
        # In a usual row a few have nearly all of the mass; those of less than (1 - share) / n never have the rest.
        for count in (min(_FEW, len(self)), len(self)):
            least = min((1 - share) / count, math.exp(-surprise))
            if self._told is not None:
                found = self.above(self.logsumexp + math.log(least))
            else:
                found = (self.weights >= least * self.mass).nonzero()[0]
            likely = self.at(found)
            if count == len(self) or (len(found) and likely.mass >= share * self.mass):
                break
        return likely

    def at(self, positions: NDArray[np.intp]) -> Candidates:
        """Only those at the given positions (not ids), which must rise."""
        ids = self.tokens(positions)
        logits = None if self._known is None else self._known[positions]
        weights = None if self._weights is None else self._weights[positions]
        if logits is not None and weights is None and self._made is not None:
            weights = np.exp(logits - self._largest)  # in proportion to all others; few take less time than to be found
        if weights is not None and len(weights) and weights[weights.argmax()] < _LEAST:
            # What was likely has gone; beside it, the rest may have been rounded to nothing.
            logits, weights = self._undivided[positions], None
        return Candidates(logits, ids, self._divisor, weights)

    @property
    def possible(self) -> Candidates:
        """Those whose logit is not -inf.

        Raises:
            DeadEnd, LogitsError: as `peak` does.
        """
        logits = self.checked
        return self if logits[logits.argmin()] > -np.inf else self.at((logits > -np.inf).nonzero()[0])

    def keep(self, mask: Mask) -> Candidates:
        """Only those where `mask`, shape (n,), holds."""
        return self if mask.all() else self.at(mask.nonzero()[0])

    def with_logits(self, logits: Floats) -> Candidates:
        """The same tokens with other logits, shape (n,)."""
        return Candidates(logits, self._ids)

    def replaced(self, positions: NDArray[np.intp], logits: Floats | float) -> Candidates:
        """The same tokens, those at some positions (not ids) with other logits, shape (positions,) or one for all."""
        row = self.logits.copy()
        row[positions] = logits
        return Candidates(row, self._ids, blocks=None if self._told is None else self._told.replaced(row, positions))

    def with_weights(self, weights: Floats) -> Candidates:
        """The same tokens with probabilities in proportion to numbers of at least 0, not all of them 0, shape (n,)."""
        kind = self.weights.dtype if self._known is None else self._known.dtype
        return Candidates(None, self._ids, weights=weights.astype(kind, copy=False))

    def shifted(self, amount: float) -> Candidates:
        """The same tokens with a number added to the logits: the same probabilities."""
        logits = self.logits + self.logits.dtype.type(amount)
        if self._told is not None:
            return Candidates(logits, blocks=self._told.shifted(amount))
        return Candidates(logits, self._ids, weights=self._weights)

    def divided(self, divisor: float) -> Candidates:
        """The same tokens with their logits divided by a positive number."""
        if divisor == 1:
            return self
        return Candidates(self._undivided, self._ids, self._divisor * divisor, blocks=self._blocks)

    def positions(self, tokens: NDArray[Any]) -> NDArray[np.intp]:
        """Where these distinct token ids are; tokens that are no longer candidates are left out."""
        if self._ids is None:
            return tokens[(tokens >= 0) & (tokens < len(self))].astype(np.intp)
        if len(self._ids) == 0:
            return np.empty(0, np.intp)
        index = np.searchsorted(self._ids, tokens)
        index[index == len(self._ids)] = 0
        found: NDArray[np.intp] = index[self._ids[index] == tokens]
        return found

    def without(self, tokens: NDArray[Any]) -> Candidates:
        """All but these token ids."""
        mask = np.ones(len(self), bool)
        mask[self.positions(tokens)] = False
        return self.keep(mask)

    def only(self, tokens: NDArray[Any]) -> Candidates:
        """Of these distinct token ids, those that are candidates."""
        return self.at(np.sort(self.positions(tokens)))

    def spread(self, size: int) -> Floats:
        """Logits over the whole vocabulary, shape (size,): -inf for every token that is no candidate."""
        if self._ids is None:
            return self.logits
        logits = np.full(size, -np.inf, self.logits.dtype)
        logits[self._ids] = self.logits
        return logits

    def distribution(self, size: int) -> NDArray[np.float64]:
        """Probabilities over the whole vocabulary in double precision, shape (size,)."""
        probabilities = np.zeros(size)
        logits = self.checked.astype(np.float64)
        probabilities[self.ids] = np.exp(logits - logsumexp(logits))
        return probabilities

    def __repr__(self) -> str:
        if len(self) > 8:
            return f"Candidates({len(self)} tokens)"
        pairs = ", ".join(f"{token}: {logit:.4g}" for token, logit in zip(self.ids, self.logits, strict=True))
        return f"Candidates({{{pairs}}})"
