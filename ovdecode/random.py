"""Randomness as a function of (seed, prompt, sample): the same whoever else runs, and in whatever order."""

from __future__ import annotations

import hashlib
from operator import index as whole
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ovdecode.noise import GumbelNoise
from ovdecode.numerics import Floats, pick


class Chooser(Protocol):
    """What decides which token is drawn: random numbers, for one.

    Attributes:
        ordered: whether what it chooses must stand in the order in which it is offered; then nothing is chosen on
            trial, for somebody else to reject.
    """

    ordered: ClassVar[bool]

    def choose(self, weights: Floats) -> int:
        """Index i with a probability of weights[i] / sum(weights); weights are non-negative, shape (n,)."""


class Random:
    """A counter-based stream of random numbers (Philox; Salmon et al. 2011, "Parallel random numbers: as easy as
    1, 2, 3"). Nothing outside the key has an influence on what it gives.

    Every discrete choice goes through `choose` or `flip`, so that a test can enumerate all of them.

    Args:
        key: anything with a stable text, such as (seed, prompt tokens, sample).
    """

    ordered: ClassVar[bool] = False

    def __init__(self, *key: object) -> None:
        self.key = key
        digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
        self._generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def split(self, index: int) -> Random:
        """An independent stream for branch `index`; the same one each time."""
        return Random(*self.key, whole(index))

    def choose(self, weights: Floats) -> int:
        """Index i with a probability of weights[i] / sum(weights); weights are non-negative, shape (n,)."""
        return pick(weights, self.uniform())

    def flip(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def uniform(self) -> float:
        """A real number in [0, 1)."""
        return float(self._generator.random())

    def gumbel(self, size: int) -> NDArray[np.float64]:
        """Independent standard Gumbel variates, shape (size,)."""
        return self._generator.gumbel(size=size)

    def gumbel_noise(self) -> GumbelNoise:
        """Independent standard Gumbel variates for tokens, each made when it is looked at; others at each call."""
        return GumbelNoise(self._generator.bit_generator.random_raw(1))

    def __repr__(self) -> str:
        return f"Random{self.key!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a random stream is not stored; store its key and make it anew")
