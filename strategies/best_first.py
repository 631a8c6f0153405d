"""Best-first beam search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, nsmallest
from itertools import count
from typing import ClassVar

from ovdecode.errors import DeadEnd
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.extensions import Extensions, normalized, require_positive
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy


@register("best_first")
@dataclass(frozen=True)
class BestFirstBeamSearch(Strategy):
    """The result of a beam search, with the most probable beams extended first, and the needless ones not at all.

    Law: exactly the sequences of the beam search that keeps, at every length, the `num_beams` best sequences
    by log p, where finished ones stay among them as they are, until all are finished. Here p is the
    probability that sampling from the processed logits gives the sequence. At every length, only the first
    `num_beams` sequences that come out of a priority queue are extended; because log p never rises, they are
    that beam. Sums are not divided by the length, which would break this.
    Source: Meister, Vieira, Cotterell 2020, "Best-First Beam Search" (arXiv:2007.03909).

    `beam` differs: finished sequences leave its beams to others, and its early stop may end sooner.

    Args:
        num_beams: width of the search; at least 1.
        num_return_sequences: how many are wanted, at most `num_beams`; the search ends when it has them.
        batch_size: how many sequences the model is asked about at once, those likely to be next beside the one
            that is; at least 1. The answer does not depend on it.

    Example:
        >>> import ovdecode as od
        >>> rows = {(0,): [-9, 5, 5.1, -9], (1,): [-9, -9, -9, 9], (): [0, 0, 0, 0]}
        >>> generation = od.Model(od.TableRunner(rows)).generate([0], od.BestFirstBeamSearch(2), max_new_tokens=2)
        >>> generation.tokens
        (1, 3)
    """

    commits: ClassVar[bool] = False

    num_beams: int = 4
    num_return_sequences: int = 1
    batch_size: int = 4

    def __post_init__(self) -> None:
        require_positive(self, "num_beams", "batch_size")
        fits = 1 <= self.num_return_sequences <= self.num_beams
        require(self, "num_return_sequences", fits, f"between 1 and `num_beams`, which is {self.num_beams}")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Take the best from the queue; if its length still has a place, it is finished or extended."""
        if stop(prompt):
            return prompt
        order = count()
        queue = [(0.0, next(order), Hypothesis(prompt, 0.0))]
        known = dict[Sequence, list[Hypothesis]]()
        finished, places = list[Hypothesis](), _Places(self.num_beams)
        while queue and len(finished) < self.num_return_sequences:
            _, _, node = heappop(queue)
            length = node.sequence.length
            if not places.free(length):
                continue
            if stop(node.sequence):
                if places.take_onwards(length):
                    finished.append(node)
                continue
            if node.sequence not in known:
                ahead = (each for _, _, each in nsmallest(self.batch_size - 1, queue))
                asked = [node, *_unknown(ahead, known, places, stop)]
                rows = yield [each.sequence for each in asked]
                for each, logits in zip(asked, rows, strict=True):
                    tokens = normalized(self, logits, each.sequence, self.num_beams)
                    known[each.sequence] = list(Extensions.by([each], [tokens]).best())
            places.take(length)
            for child in known.pop(node.sequence):
                heappush(queue, (-child.score, next(order), child))
        if not finished:
            raise DeadEnd("the processors of `best_first` leave no token possible in any of its beams")
        return Outcome(tuple(finished))


class _Places:
    """How many of the places that a beam has at each length are taken."""

    def __init__(self, size: int) -> None:
        self.size, self._taken, self._onwards = size, dict[int, int](), 0

    def free(self, length: int) -> bool:
        """Whether there is a place at this length."""
        return self._taken.get(length, self._onwards) < self.size

    def take(self, length: int) -> None:
        """Take a place at this length."""
        self._taken[length] = self._taken.get(length, self._onwards) + 1

    def take_onwards(self, length: int) -> bool:
        """Take a place at this and all longer lengths, up to the first that has none; true if all have one."""
        for each in range(length, max(self._taken) + 1):
            if not self.free(each):
                return False
            self.take(each)
        self._onwards += 1
        return True


def _unknown(
    nodes: Iterator[Hypothesis], known: dict[Sequence, list[Hypothesis]], places: _Places, stop: Stop
) -> Iterator[Hypothesis]:
    """Those whose extensions are likely to be asked for."""
    for node in nodes:
        if node.sequence not in known and places.free(node.sequence.length) and not stop(node.sequence):
            yield node
