"""Who is served in this round: requests merged, oldest task first, within the bounds of one inference a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakSet

from ovdecode.engine.result import without_frames
from ovdecode.errors import CacheError
from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import ModelRunner, Pending
from ovdecode.sequence import Sequence

if TYPE_CHECKING:
    from ovdecode.engine.clock import Clock
    from ovdecode.engine.job import Job

log = logging.getLogger(__name__)
_failed_together: WeakSet[ModelRunner] = WeakSet()
"""The runners about which this was said; once is enough."""

SHARED = 32
"""Two prompts with at least this many uncomputed tokens in common are computed one after the other: the second is then
found in the cache. A fork of a few tokens (a tree of drafts) is cheaper to compute twice than to wait for."""


Key = tuple[Sequence, bool]
"""What makes two requests one: the sequence, and whether logits alone are wanted (the two may run on two graphs)."""


@dataclass
class Batch:
    """One inference of one runner: for each sequence, everything that anybody wants to know about it.

    Attributes:
        runner: who runs it.
        budget: how many tokens there is room for.
        wanted: the requests, merged.
        readers: who waits for which of them, with the request as it was made.
        parts: who waits for a request of which only a part is among `wanted`.
        impossible: who asked for what does not fit the cache even alone.
    """

    runner: ModelRunner
    budget: int
    wanted: dict[Key, Forward] = field(default_factory=dict)
    readers: list[tuple[Job, Forward]] = field(default_factory=list)
    parts: list[tuple[Job, Forward]] = field(default_factory=list)
    impossible: list[tuple[Job, Forward]] = field(default_factory=list)
    _prefills: set[Sequence] = field(default_factory=set)

    def add(self, job: Job, request: Forward) -> None:
        """Take a request in, or the part of it that there is room for; what is left out asks again next round."""
        key = _key(request)
        if key in self.wanted:
            more = max(request.rows - max(self.wanted[key].rows, self.runner.missing(request)), 0)
            if more <= self.budget:
                self.wanted[key] = _union(self.wanted[key], request)
                self.readers.append((job, request))
                self.budget -= more
            return
        missing = self.runner.missing(request)
        if self._awaits_prefix(request, missing):
            return
        cost = max(missing, request.rows)
        if cost <= self.budget or not (self.wanted or self.runner.incremental):
            self.wanted[key] = request
            self.readers.append((job, request))
            self.budget = max(self.budget - cost, 0)
        elif self.runner.incremental and self.budget > 0 and missing > request.rows:
            self._add_part(job, request, missing)
        elif not self.wanted:  # more rows than the bound allows, and none of them can wait
            self.wanted[key] = request
            self.readers.append((job, request))
            self.budget = 0

    def _add_part(self, job: Job, request: Forward, missing: int) -> None:
        part = min(self.budget, missing - request.rows)
        ancestor = request.sequence[: request.sequence.length - missing + part]
        begin = Forward(ancestor, 0, None, request.hidden, request.layers)
        self.wanted.setdefault(_key(begin), begin)
        self.parts.append((job, request))
        self.budget -= part

    def _awaits_prefix(self, request: Forward, missing: int) -> bool:
        if not self.runner.incremental or missing <= SHARED:
            return False
        begin = request.sequence[: request.sequence.length - missing + SHARED]
        if begin in self._prefills:
            return True
        self._prefills.add(begin)
        return False

    def trim(self) -> None:
        """Leave out what the cache cannot hold at once, newest tasks first."""
        room = self.runner.room(list(self.wanted.values()))
        if room == len(self.wanted):
            return
        if room == 0:
            first = next(iter(self.wanted.values())).sequence
            waiting = [*self.readers, *self.parts]
            self.impossible = [reader for reader in waiting if reader[1].sequence[: first.length] is first]
        self.wanted = dict(list(self.wanted.items())[:room])
        self.readers = [(job, request) for job, request in self.readers if _key(request) in self.wanted]

    def submit(self, clock: Clock) -> Pending | None:
        """Start the inference; None if that fails. Whose fault it is, and so the error, is found out in `answers`."""
        if not self.wanted:
            return list
        requests = list(self.wanted.values())
        try:
            with clock.stopped():
                self.runner.prepare(requests)
            return self.runner.submit(requests)
        except Exception:
            return None

    def answers(self, pending: Pending | None) -> Iterator[tuple[Job, Forward, Answer | Exception]]:
        """Wait, and give everybody their part. If the inference fails, each request is tried on its own, so that an
        error reaches only those who asked for it."""
        found: dict[Key, Answer | Exception] | None = None
        if pending is not None:
            with suppress(Exception):
                found = dict(zip(self.wanted, pending(), strict=True))
        if found is None:
            if self.runner not in _failed_together:
                _failed_together.add(self.runner)
                log.warning("`%s` failed on a batch, so its requests are tried one by one", self.runner.name)
            found = {key: self._alone(request) for key, request in self.wanted.items()}
        for job, request in self.readers:
            answer = found[_key(request)]
            yield job, request, answer if isinstance(answer, Exception) else _part(answer, request)
        for job, request in self.impossible:
            error = CacheError(
                f"a sequence of {request.sequence.length} tokens must fit the cache of `{self.runner.name}` by "
                "itself, but does not; give `load` a larger `cache_bytes`"
            )
            yield job, request, error

    def _alone(self, request: Forward) -> Answer | Exception:
        try:
            return self.runner.forward([request])[0]
        except Exception as error:
            return without_frames(error)


def schedule(jobs: list[Job], max_tokens: int) -> list[Batch]:
    """The batches of this round, one a runner, the oldest task's requests first."""
    batches: dict[ModelRunner, Batch] = {}
    for job in jobs:
        for request in job.open:
            runner = job.model_of(request).runner
            batch = batches.get(runner)
            if batch is None:
                batch = batches[runner] = Batch(runner, max_tokens)
            try:
                batch.add(job, request)
            except Exception as error:  # the runner can't plan for this sequence
                job.fail(error)
                break
    for batch in batches.values():
        batch.trim()
    return list(batches.values())


def _key(request: Forward) -> Key:
    return request.sequence, request.plain


def _union(one: Forward, other: Forward) -> Forward:
    """The request whose answer contains those of both."""
    layers = tuple(sorted({*one.layers, *other.layers}))
    return Forward(one.sequence, max(one.rows, other.rows), None, one.hidden or other.hidden, layers)


def _part(answer: Answer, request: Forward) -> Answer:
    """Of an answer to a union, what one request asked for: the last of its rows, and no layers but its own."""
    first = len(answer.logits) - request.rows
    if first == 0 and request.plain:
        return answer
    return Answer(
        answer.logits[first:],
        answer.logsumexp[first:],
        answer.hidden[first:] if request.hidden and answer.hidden is not None else None,
        {layer: answer.layers[layer][first:] for layer in request.layers} or None if answer.layers else None,
        None if answer.blocks is None else answer.blocks[first:],
        None if answer.weights is None else answer.weights[first:],
    )
