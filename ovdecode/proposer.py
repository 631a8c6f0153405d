"""Proposers guess what comes next, so that one inference of the model can verify several tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.errors import StrategyError
from ovdecode.forward import Logits
from ovdecode.numerics import Floats
from ovdecode.plugin import Plugin
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Request

Law: TypeAlias = Callable[[Logits, Sequence], Candidates]
"""From a model's logits after a sequence to what its next token is drawn from; a single candidate is certain."""


@dataclass(frozen=True, eq=False)
class Drafted:
    """One proposed token, with what is proposed after it.

    Attributes:
        token: its id.
        drawn_from: what it was drawn from, given all that comes before it in the draft: the tokens that lead to it, and
            the alternatives tried before it. None if it was certain to be proposed.
        then: the alternatives for the token after it, in the order in which they are tried.

    Raises:
        StrategyError: if it was drawn from candidates that hold it to be impossible.
    """

    token: int
    drawn_from: Candidates | None = None
    then: Draft = ()

    def __post_init__(self) -> None:
        if not self.probability > 0:
            raise StrategyError(
                f"`drawn_from` must be what token {self.token} was drawn from, but {self.drawn_from} gives it 0"
            )

    @cached_property
    def probability(self) -> float:
        """How probable it was to be proposed."""
        return float(self.probabilities_of(np.array([self.token]))[0])

    def probabilities_of(self, tokens: NDArray[Any]) -> Floats:
        """How probable each of these tokens was to be proposed in its place, shape (n,)."""
        if self.drawn_from is not None:
            return self.drawn_from.probabilities_of(tokens)
        certain: Floats = np.asarray(tokens == self.token, np.float64)
        return certain


Draft: TypeAlias = tuple[Drafted, ...]
"""A tree of proposed tokens: the alternatives for the next one, in the order in which they are tried, each with those
after it. A single continuation is a tree without alternatives; the empty draft proposes nothing."""


def tree(nodes: Items[tuple[int, int, Candidates | None]]) -> Draft:
    """The draft of these nodes.

    Args:
        nodes: for each, the place of the node that it comes after (which is listed before it; -1 for a first token),
            its token, and what that was drawn from. Alternatives are tried in the order of the list.
    """
    then: list[list[Drafted]] = [[] for _ in range(len(nodes) + 1)]  # the last one holds the first tokens
    for place in reversed(range(len(nodes))):
        before, token, drawn_from = nodes[place]
        then[before].append(Drafted(token, drawn_from, tuple(reversed(then[place]))))
    return tuple(reversed(then[-1]))


def chain(tokens: Iterable[tuple[int, Candidates | None]]) -> Draft:
    """The draft of tokens that come one after the other, each with what it was drawn from."""
    return tree([(place - 1, token, drawn_from) for place, (token, drawn_from) in enumerate(tokens)])


def continuations(given: Iterable[Iterable[int]]) -> Draft:
    """The draft of several continuations, certain ones; what they begin with in common is proposed once.

    Example:
        >>> first, second = continuations([[1, 2], [3], [1, 4]])
        >>> first.token, [each.token for each in first.then], second.token
        (1, [2, 4], 3)
    """
    places: dict[tuple[int, int], int] = {}
    nodes: list[tuple[int, int, Candidates | None]] = []
    for continuation in given:
        place = -1
        for token in continuation:
            if (place, token) not in places:
                nodes.append((place, token, None))
                places[place, token] = len(nodes) - 1
            place = places[place, token]
    return tree(nodes)


Proposing: TypeAlias = Generator["Request | list[Request]", Any, Draft]
"""A proposer at work: it may ask models for logits, as a strategy does, and returns its draft."""


@dataclass(frozen=True)
class Proposer(Plugin):
    """Drafts tokens for a strategy that verifies them. Any draft is right; a likely one is fast.

    The verified law is exact as long as each token was drawn from what comes with it; `chain`, `continuations` and
    `tree` make drafts. A proposer that asks the task's own model does so with `Forward(..., draft=True)`; one that
    asks no model writes `yield from ()` before it returns.
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
