"""What is still possible as the next token: ids with their logits, narrower after each truncation."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.blocks import Blocks
from ovdecode.law import Law, bounded
from ovdecode.numerics import Floats, logsumexp, top_indices

if TYPE_CHECKING:
    from ovdecode.random import Chooser
    from ovdecode.sequence import Sequence

Mask = NDArray[np.bool_]
_FEW = 512
_LEAST = 1e-30
"""Below this weight, single precision has few digits left."""


class Candidates(Law):
    """Token ids with their logits; every method returns new candidates and leaves these as they were.

    Args:
        logits, divisor, weights, blocks: see `Law`.
        ids: the token id of each, shape (n,), rising; None while all tokens of the vocabulary are there.
    """

    def __init__(
        self,
        logits: Floats | None,
        ids: NDArray[np.intp] | None = None,
        divisor: float = 1.0,
        weights: Floats | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        super().__init__(logits, divisor=divisor, weights=weights, blocks=blocks)
        self._ids = ids

    @classmethod
    def after(cls, sequence: Sequence, logits: NDArray[np.float32]) -> Candidates:
        """All tokens, with the logits that a strategy was sent for the one after `sequence`, shape (vocab,)."""
        told = sequence.told(logits)
        if told is None or told.blocks is None:
            return cls(logits)
        peaks, sums = told.blocks
        return cls(logits, blocks=Blocks(peaks, sums, told.weights))

    @property
    def dense(self) -> bool:
        """Whether position i is still token i, for every token of the vocabulary."""
        return self._ids is None

    @cached_property
    def ids(self) -> NDArray[np.intp]:
        """Token ids, rising, shape (n,)."""
        return np.arange(len(self)) if self._ids is None else self._ids

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
        bounds = self._blocks.bounds(bounded(self._divisor), size)
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
