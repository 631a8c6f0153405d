"""A* search."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import count

from ovdecode.registry import register
from ovdecode.strategies.optimal import Branches, OptimalSearch
from ovdecode.strategy import Hypothesis


@register("a_star")
@dataclass(frozen=True)
class AStarSearch(OptimalSearch):
    """The sequence with the best score of all, found by always following the most promising beginning.

    Law: if `proved` is 1.0, no sequence that the stop ends has a better score than those returned. The score
    is log p / length ** length_penalty, where p is the probability that sampling from the processed logits
    gives the sequence. With `batch_size` 1, no search that proves this asks about fewer sequences, up to
    equals: each one asked about promises more than the answer.
    Source: Hart, Nilsson, Raphael 1968, "A Formal Basis for the Heuristic Determination of Minimum Cost
    Paths". The estimate of what is still to come is that it costs nothing, the only one that holds for every
    language model; with a positive length penalty, at the longest length that the stop allows.

    It keeps everything asked about in memory; `exact_search` needs less, and asks more.

    Example:
        >>> import ovdecode as od
        >>> rows = {(0,): [-9, 5, 5.1, -9], (1,): [-9, -9, -9, 9], (): [0, 0, 0, 0]}
        >>> generation = od.Model(od.TableRunner(rows)).generate([0], od.AStarSearch(batch_size=1), max_new_tokens=2)
        >>> generation.tokens, dict(generation.info)
        ((1, 3), {'nodes': 3, 'proved': 1.0})
    """

    def frontier(self) -> Queue:
        """The most promising first."""
        return Queue()


class Queue:
    """The most promising branch of all comes first; of equals, that of the sequence whose branches came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Branches]] = []
        self._order = count()

    def add(self, branches: Branches) -> None:
        """Sort them in."""
        heappush(self._heap, (-branches.promise, next(self._order), branches))

    def take(self, worst: float) -> tuple[Hypothesis, float] | None:
        """The most promising branch, if it is worth following."""
        if not self._heap:
            return None
        promise, order, first = self._heap[0]
        if -promise <= worst:
            self._heap.clear()  # no other promises more
            return None
        branch = first.take()
        if first:
            heapreplace(self._heap, (-first.promise, order, first))
        else:
            heappop(self._heap)
        return branch
