"""What searches share that prove their answer: branches, their bounds, and the loop that follows them."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.numerics import Floats
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.extensions import Finished, final_score, length_bound, normalized, require_positive
from ovdecode.strategy import Decoding, Hypothesis, Strategy


class Branches:
    """The extensions of one sequence that are still to be followed, best first."""

    def __init__(self, sequence: Sequence, tokens: NDArray[np.intp], sums: Floats, promises: Floats) -> None:
        self._extend, self._sums, self._promises, self._taken = sequence.deferred(tokens), sums, promises, 0

    def __bool__(self) -> bool:
        return self._taken < len(self._sums)

    @property
    def promise(self) -> float:
        """The best score that anything can have that begins with the next of them."""
        return float(self._promises[self._taken])

    def take(self) -> tuple[Hypothesis, float]:
        """The best extension left, with its sum of log-probabilities, and its promise."""
        place, self._taken = self._taken, self._taken + 1
        extension = Hypothesis(self._extend(place), float(self._sums[place]))
        return extension, float(self._promises[place])


class Frontier(Protocol):
    """The order in which branches are followed."""

    def add(self, branches: Branches) -> None:
        """Take in the branches of one more sequence; of those asked about at once, the best comes last."""

    def take(self, worst: float) -> tuple[Hypothesis, float] | None:
        """The next extension to follow, with its promise; None if none promises more than `worst`."""


class Stack:
    """The branches of the deepest sequence come first."""

    def __init__(self) -> None:
        self._branches: list[Branches] = []

    def add(self, branches: Branches) -> None:
        """Put them on top."""
        self._branches.append(branches)

    def take(self, worst: float) -> tuple[Hypothesis, float] | None:
        """The best branch of the topmost sequence that has one worth following."""
        while self._branches:
            top = self._branches[-1]
            if top and top.promise > worst:
                return top.take()
            self._branches.pop()  # its other branches promise even less
        return None


@dataclass(frozen=True)
class OptimalSearch(Strategy):
    """A search that ends when nothing left to follow can be better than what it has found.

    `info` has `nodes`, for how many sequences the model was asked, and `proved`: 1.0, or 0.0 if `max_nodes` came first.

    Args:
        length_penalty: the exponent of the length in the score; above 0, the stop must bound the length.
        num_return_sequences: how many of the best sequences are wanted; at least 1.
        max_nodes: after asking about so many sequences, the search ends unproved; at least 1. If it has no complete
            sequence then, it first follows the best branch down to one. Memory is bounded by this too: no sequence
            keeps more branches than can still be followed.
        batch_size: how many sequences the model is asked about at once; the answer, if proved, does not depend on it.
    """

    commits: ClassVar[bool] = False

    length_penalty: float = 0.0
    num_return_sequences: int = 1
    max_nodes: int = 2000
    batch_size: int = 8

    def __post_init__(self) -> None:
        require(self, "length_penalty", math.isfinite(self.length_penalty), "a finite number")
        require_positive(self, "num_return_sequences", "max_nodes", "batch_size")

    @abstractmethod
    def frontier(self) -> Frontier:
        """An empty frontier."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask about some sequences, note their branches, take the next ones from the frontier."""
        if stop(prompt):
            return prompt
        bound = length_bound(stop, prompt)
        if bound is None and self.length_penalty > 0:
            raise ConfigurationError(
                f"`length_penalty` of `{self.name}` must be at most 0 without a bound on the length, got "
                f"{self.length_penalty}; add `max_new_tokens`"
            )
        frontier, dive = self.frontier(), Stack()  # when the nodes are used up, it dives for a first result
        found, nodes = Finished(self.num_return_sequences), 0
        asked, given_up = [Hypothesis(prompt, 0.0)], -math.inf  # the best promise that was not followed
        while asked:
            rows = yield [node.sequence for node in asked]
            nodes += len(asked)
            most = max(self.max_nodes - nodes, 0) + self.num_return_sequences
            for node, logits in zip(reversed(asked), reversed(rows), strict=True):
                best = normalized(self, logits, node.sequence, most + 1)
                order = best.falling()
                tokens, sums = best.ids[order], node.score + best.logits[order]
                promises = self._promises(sums, node.sequence.length + 1 - prompt.length, bound)
                given_up = max([given_up, *promises[most:]])
                worth = int(np.count_nonzero(promises[:most] > found.worst))
                if worth:
                    into = frontier if nodes < self.max_nodes else dive
                    into.add(Branches(node.sequence, tokens[:worth], sums[:worth], promises[:worth]))
            asked = []
            while len(asked) < self.batch_size:
                branch = dive.take(found.worst) or frontier.take(found.worst)
                if branch is None:
                    break
                extension, promise = branch
                if stop(extension.sequence):
                    found.add([self._complete(extension, prompt)])
                elif nodes + len(asked) < self.max_nodes or not (asked or found.hypotheses):
                    asked.append(extension)
                else:
                    given_up = max(given_up, promise)
                    break
        proved = given_up <= found.worst
        return found.outcome(self, self.num_return_sequences, {"nodes": nodes, "proved": float(proved)})

    def _complete(self, node: Hypothesis, prompt: Sequence) -> Hypothesis:
        length = node.sequence.length - prompt.length
        return Hypothesis(node.sequence, final_score(node.score, length, self.length_penalty))

    def _promises(self, sums: Floats, length: int, bound: int | None) -> Floats:
        """The best scores that can come of extensions with these sums and this length.

        A sum of log-probabilities never rises. It is worth most at the length that favours it most: the longest with a
        positive exponent, else the present one.
        """
        longest = length if bound is None or self.length_penalty <= 0 else bound
        promises: Floats = sums / float(longest) ** self.length_penalty
        return promises
