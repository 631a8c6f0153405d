"""Gumbel noise that is made only where it is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.hashing import Hashes, absorb, uniforms

_BLOCK, _FIRST = 64, 8
_PLACES = np.arange(_BLOCK)


class GumbelNoise:
    """A standard Gumbel variate for each token, independent of all others.

    Law: -log of the time at which the token arrives, if each comes after a time of its own with the exponential
    distribution. Tokens stand in blocks of 64. Of so many, the first arrives after E / 64, and each is the first with
    the same probability; from then on every other one takes its full time again, because the exponential distribution
    has no memory. So the best token is found without a look into blocks whose first comes too late.

    The numbers are hashes of key and token: those of a token are the same whatever the other candidates are.
    Source: Gumbel 1954; Maddison, Tarlow, Minka 2014, "A* Sampling" (arXiv:1411.0030) for the noise of a group as a
    whole before that of its members.

    Args:
        keys: 64 random bits, shape (1,); or keys for the tokens that `of` is asked about, one each. Keys that differ in
            their lower half alone share numbers.
    """

    def __init__(self, keys: Hashes) -> None:
        self._blocks = keys
        self._tokens = self._blocks ^ np.uint64(2**63)  # no token is hashed as a block is

    def of(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The noise of these tokens, of any shape."""
        arrivals, winners = self._first(tokens // _BLOCK)
        return self._noise(tokens, arrivals, tokens % _BLOCK == winners)

    def largest(self, candidates: Candidates, count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Positions of the `count` possible candidates with the largest sums of logit and noise, and these sums.

        Both of shape (count,), less if there are fewer, the largest first.

        Raises:
            DeadEnd: if no token is left.
        """
        logits, peaks = candidates.checked, candidates.peaks
        if peaks is None or len(peaks) * _BLOCK != len(logits) or len(peaks) <= _FIRST:
            positions, least = np.arange(len(logits)), -np.inf
            sums = logits + self.of(candidates.ids)
        else:
            arrivals, winners = self._first(np.arange(len(peaks)))
            rows, most = logits.reshape(-1, _BLOCK), -np.log(arrivals)  # most: the noise of the first of each block
            bounds = peaks + most  # of the sums in each block

            def noisy(tokens: NDArray[np.intp]) -> NDArray[np.float64]:
                blocks = tokens // _BLOCK
                noise = self._noise(tokens, arrivals[blocks], tokens % _BLOCK == winners[blocks])
                sums: NDArray[np.float64] = logits[tokens] + noise
                return sums

            # What is among the largest of a few blocks bounds what can be among the largest of all.
            first = np.argpartition(bounds, -_FIRST)[-_FIRST:]
            positions = (first[:, None] * _BLOCK + _PLACES).ravel()
            sums = noisy(positions)
            least = np.partition(sums, -count)[-count] if count <= len(sums) else -np.inf
            others = bounds >= least
            others[first] = False
            if others.any():
                blocks = others.nonzero()[0]
                likely = (rows[blocks] + most[blocks, None] >= least).ravel().nonzero()[0]
                tokens = blocks[likely // _BLOCK] * _BLOCK + likely % _BLOCK
                positions, sums = np.append(positions, tokens), np.append(sums, noisy(tokens))
        able = ((sums >= least) & (sums > -np.inf)).nonzero()[0]
        best = able[np.argsort(-sums[able], kind="stable")[:count]]
        return positions[best], sums[best]

    def _first(self, blocks: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """When the first token of each block arrives, and its place in the block, each of the same shape."""
        hashes = absorb(self._blocks, blocks)
        return -np.log(uniforms(hashes)) / _BLOCK, (hashes & np.uint64(_BLOCK - 1)).view(np.int64)

    def _noise(
        self, tokens: NDArray[np.integer[Any]], arrivals: NDArray[np.float64], first: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """The noise of tokens, given when the first of each one's block arrives and whether it is that one."""
        later = np.log(uniforms(absorb(self._tokens, tokens)))
        later[first] = 0.0
        noise: NDArray[np.float64] = -np.log(arrivals - later)
        return noise
