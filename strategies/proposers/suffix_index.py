"""Drafts from all earlier occurrences of the text's end, by how often each continuation followed."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from ovdecode.plugin import require
from ovdecode.proposer import Law, Proposer, Proposing, continuations
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop

Tokens = NDArray[np.int64]


Scored = tuple[float, list[tuple[int, ...]]]
"""A score, and the continuations that have it, each one a token longer than another, the most probable first."""


@register("suffix_index")
@dataclass(frozen=True)
class SuffixIndex(Proposer):
    """What followed the end of the text most often, wherever in the prompt or the text it occurred before.

    For an end of any length that occurred before, the continuations of its occurrences are a tree, in which a token
    has the share of its parent's occurrences that go on with it, times the parent's own probability. The most
    probable tokens of the tree are a draft, more of them after a longer end; its score is the sum of their
    probabilities. The draft with the best score counts, of equal ones that of the longest end.
    Source: Oliaro et al. 2024, "SuffixDecoding: Extreme Speculative Decoding for Emerging AI Applications", who keep
    the outputs of other requests in the index too; here a result depends on its own prompt alone. The library of
    the authors, and vLLM with it, draft without alternatives by default, with a factor of 1.

    Args:
        num_tokens: the most tokens of a draft; at least 1.
        factor: a draft has at most this many tokens for each one that its end is long; above 0.
        min_probability: a token that is less probable is not drafted; 0 < min_probability <= 1.
        branching: alternatives are drafted too, as a tree; otherwise the most frequent token alone, the latest among
            equals.
        max_length: the longest end that is looked up; at least 1.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        >>> strategy = od.Speculative(proposer=od.SuffixIndex())
        >>> generation = model.generate([0, 1, 2, 0, 1, 2], strategy, max_new_tokens=6)
        >>> generation.tokens, generation.info["rounds"]
        ((0, 1, 2, 0, 1, 2), 2)
    """

    aliases = ("suffix_decoding",)

    num_tokens: int = 16
    factor: float = 2.0
    min_probability: float = 0.1
    branching: bool = False
    max_length: int = 64

    def __post_init__(self) -> None:
        require(self, "num_tokens", self.num_tokens >= 1, "at least 1")
        require(self, "factor", 0 < self.factor < float("inf"), "a finite number above 0")
        require(self, "min_probability", 0 < self.min_probability <= 1, "above 0 and at most 1")
        require(self, "max_length", self.max_length >= 1, "at least 1")

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        """Look all ends of the sequence up in it."""
        yield from ()
        return continuations(self.look_up(sequence.tokens))

    def look_up(self, tokens: Tokens) -> list[tuple[int, ...]]:
        """The continuations of the best draft after `tokens`, shape (length,), the most probable first; each one is a
        token longer than another."""
        occurrences = [np.flatnonzero(tokens[:-1] == tokens[-1])]  # for each length, where an equal end is complete
        while len(occurrences[-1]) and len(occurrences) < self.max_length:
            length = len(occurrences)
            longer = occurrences[-1][occurrences[-1] >= length]
            occurrences.append(longer[tokens[longer - length] == tokens[-1 - length]])
        best: Scored = 0.0, []
        for length in range(len(occurrences), 0, -1):
            size = min(self.num_tokens, int(length * self.factor))
            if size <= best[0]:  # no token has more than 1, here and at all shorter ends
                break
            scored = self._draft(tokens, occurrences[length - 1] + 1, size)
            if scored[0] > best[0]:
                best = scored
        return best[1]

    def _draft(self, tokens: Tokens, at: NDArray[np.intp], size: int) -> Scored:
        """The `size` most probable tokens of the tree of what stands at some positions of `tokens`."""
        found: list[tuple[int, ...]] = []
        score, count = 0.0, 0
        waiting: list[tuple[float, int, tuple[int, ...], NDArray[np.intp]]] = []

        def follow(probability: float, path: tuple[int, ...], at: NDArray[np.intp]) -> None:
            nonlocal count
            at = at[at < len(tokens)]
            values, last, counts = np.unique(tokens[at][::-1], return_index=True, return_counts=True)
            order = np.lexsort((last, -counts))  # most frequent, then latest
            for place in order if self.branching else order[:1]:
                share = probability * float(counts[place]) / len(at)
                if share >= self.min_probability:
                    token = int(values[place])
                    heappush(waiting, (-share, count, (*path, token), at[tokens[at] == token] + 1))
                    count += 1

        follow(1.0, (), at)
        while waiting and len(found) < size:
            share, _, path, at = heappop(waiting)
            found.append(path)
            score -= share
            follow(-share, path, at)
        return score, found
