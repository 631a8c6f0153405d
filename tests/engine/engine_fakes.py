"""Runners that count what they are asked, and strategies that are easy to follow."""

from __future__ import annotations

import gc
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from weakref import WeakSet

import numpy as np

import ovdecode as od
from ovdecode.engine import Engine, Task
from ovdecode.errors import CacheError
from ovdecode.forward import Forward
from ovdecode.generation import Generation
from ovdecode.runners.base import Pending
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding

VOCAB = 26
ABC = np.roll(np.eye(VOCAB, dtype=np.float32) * 9, 1, axis=1)  # after each letter comes the next one


class Asked(NamedTuple):
    """What one request was; it holds no sequence."""

    tokens: list[int]
    rows: int


class Counting(od.TableRunner):
    """A table that notes every inference: its requests, and how many tokens it computed."""

    def __init__(self, table: Any = ABC, **options: Any) -> None:
        super().__init__(table, **options)
        self.inferences: list[list[Asked]] = []
        self.tokens: list[int] = []

    def submit(self, requests: Items[Forward]) -> Pending:
        assert len({(one.sequence, one.plain) for one in requests}) == len(requests) > 0
        self.inferences.append([Asked(one.sequence.tokens.tolist(), one.rows) for one in requests])
        self.tokens.append(sum(max(self.missing(request), request.rows) for request in requests))
        return super().submit(requests)

    @property
    def asked(self) -> list[list[list[int]]]:
        """The tokens of each request of each inference."""
        return [[one.tokens for one in inference] for inference in self.inferences]


class Caching(Counting):
    """As a runner with a key/value cache: knows the sequences that it has computed while they are alive.

    With `tokens_that_fit`, that many tokens have room; others are evicted, those longest unused first.
    """

    incremental: ClassVar[bool] = True

    def __init__(self, table: Any = ABC, *, tokens_that_fit: int | None = None, **options: Any) -> None:
        super().__init__(table, **options)
        self.limit = tokens_that_fit
        self.cached: WeakSet[Sequence] = WeakSet()
        self.used: dict[int, int] = {}
        self.evicted = 0

    def missing(self, request: Forward) -> int:
        node, count = request.sequence, 0
        while node.parent is not None and node not in self.cached:
            node, count = node.parent, count + 1
        return count

    def room(self, requests: Items[Forward]) -> int:
        nodes: set[Sequence] = set()
        for count, request in enumerate(requests):
            nodes.update(request.sequence.path(0))
            if self.limit is not None and len(nodes) > self.limit:
                return count
        return len(requests)

    def submit(self, requests: Items[Forward]) -> Pending:
        if self.room(requests) < len(requests):
            raise CacheError("more than fits")
        wait = super().submit(requests)
        wanted = {node for request in requests for node in request.sequence.path(0)}
        for node in wanted:
            self.used[id(node)] = len(self.inferences)
        others = sorted(set(self.cached) - wanted, key=lambda node: (self.used[id(node)], -node.length))
        while self.limit is not None and others and len(wanted) + len(others) > self.limit:
            self.cached.discard(others.pop(0))
            self.evicted += 1
        self.cached.update(wanted)
        return wait

    @property
    def cache_in_use(self) -> int:
        return len(self.cached)


@dataclass(frozen=True)
class Script(od.Strategy):
    """Decodes as a function says."""

    function: Callable[..., Decoding] | None = None

    def decode(self, prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        assert self.function is not None
        return self.function(prompt, stop, rng)


@dataclass(frozen=True)
class Committing(Script):
    """The same for one that commits to what it asks about."""

    commits: ClassVar[bool] = True


def model(runner: od.TableRunner | None = None, **options: Any) -> od.Model:
    return od.Model(runner or Counting(), **options)


def counter(of: od.Model) -> Counting:
    assert isinstance(of.runner, Counting)
    return of.runner


def run(*tasks: Task, **options: Any) -> list[Generation]:
    """The results in the order of the tasks."""
    return sorted(Engine(**options).run(tasks), key=lambda generation: generation.index)


def alive(of: od.Model) -> int:
    """How many sequences of a model's vocabulary are alive, without the help of the collector."""
    return sum(
        isinstance(one, Sequence) and one.vocabulary is of.vocabulary and one.parent is not None
        for one in gc.get_objects()
    )
