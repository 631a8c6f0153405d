"""Proposers guess what comes next, so that one inference of the model can verify several tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import StrategyError
from ovdecode.forward import Logits
from ovdecode.plugin import Plugin
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Request

Distribution: TypeAlias = NDArray[np.float64]
"""Probabilities over the vocabulary, shape (vocab,)."""

Law: TypeAlias = Callable[[Logits, Sequence], Distribution]
"""From a model's logits after a sequence to the distribution of its next token: processors, then softmax or
argmax."""


@dataclass(frozen=True)
class Drafted:
    """One proposed token.

    Attributes:
        token: its id.
        distribution: the probabilities it was drawn from, shape (vocab,); None if it was certain to be
            proposed.

    Raises:
        StrategyError: if the distribution holds the token to be impossible.
    """

    token: int
    distribution: Distribution | None = None

    def __post_init__(self) -> None:
        if self.distribution is not None and not self.distribution[self.token] > 0:
            raise StrategyError(
                f"`distribution` must be the one that token {self.token} was drawn from, "
                f"but gives it {self.distribution[self.token]}"
            )

    def law(self, vocab_size: int) -> Distribution:
        """The distribution that the token was drawn from, written out, shape (vocab,)."""
        if self.distribution is not None:
            return self.distribution
        certain = np.zeros(vocab_size)
        certain[self.token] = 1.0
        return certain


Proposing: TypeAlias = Generator["Request | list[Request]", Any, list[Drafted]]
"""A proposer at work: it may ask models for logits, as a strategy does, and returns its draft."""


@dataclass(frozen=True)
class Proposer(Plugin):
    """Drafts tokens for a strategy that verifies them. Any draft is right; a likely one is fast.

    The verified law is exact as long as each token was drawn from the distribution that comes with it. A
    proposer that asks no model writes `yield from ()` before it returns.
    """

    family: ClassVar[str] = "proposer"

    @abstractmethod
    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        """Draft what may come after `sequence`, which is not finished; an empty draft is fine.

        Args:
            sequence: what is decided so far.
            stop: truthy for a finished sequence; nothing is to be drafted after one.
            law: the law of the strategy that verifies, for a proposer that imitates it with another model.
            rng: the only source of randomness.
        """
