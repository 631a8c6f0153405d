"""How far an experiment is: a small file for each process at work, which anybody may look at."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from ovdecode.experiment.cells import Cell
from ovdecode.experiment.journal import process_name
from ovdecode.experiment.record import Record
from ovdecode.experiment.store import Store

EVERY = 1.0
"""Seconds between two writings."""
STALE = 30.0
"""Seconds after which a process that has written nothing is taken for dead."""


@dataclass(frozen=True)
class Row:
    """How far one strategy is on one model: how many of its cells are finished, and how many of these failed."""

    model: str
    strategy: str
    finished: int
    failed: int
    total: int


@dataclass(frozen=True)
class Progress:
    """How far an experiment is.

    Attributes:
        state: `starting`, `decoding`, `waiting` for another process, `measuring` or `done`.
        rows: one a model and strategy.
        tokens_per_second: tokens of the results that came since the start, over that time.
        seconds_left: until all cells are finished, if they go on as they have; None if that can't be told yet.
        running: what is decoded now, as strategy, prompt and sample.
        updated: when this was written, in seconds since 1970.
    """

    state: str
    rows: tuple[Row, ...]
    tokens_per_second: float = 0.0
    seconds_left: float | None = None
    running: tuple[tuple[str, int, int], ...] = ()
    updated: float = field(default_factory=time.time)

    @property
    def finished(self) -> int:
        """How many cells are finished."""
        return sum(row.finished for row in self.rows)

    @property
    def total(self) -> int:
        """How many cells there are."""
        return sum(row.total for row in self.rows)


def rows_of(store: Store) -> tuple[Row, ...]:
    """How far each strategy is, as the store knows."""
    # (models, prompts, strategies, samples) -> (models, strategies)
    finished = np.count_nonzero(store.finished.reshape(store.shape), axis=(1, 3))
    failed = np.count_nonzero(store.failed.reshape(store.shape), axis=(1, 3))
    _, prompts, _, samples = store.shape
    return tuple(
        Row(model, strategy, int(finished[m, s]), int(failed[m, s]), prompts * samples)
        for m, model in enumerate(store.experiment.models)
        for s, strategy in enumerate(store.experiment.strategies)
    )


def read_progress(store: Store) -> Progress | None:
    """How far an experiment is, by all processes that work on it; None if none does."""
    found = [progress for _, progress in _files(store.folder) if time.time() - progress.updated < STALE]
    if not found:
        return None
    latest = max(found, key=lambda progress: progress.finished)
    rates = sum(progress.tokens_per_second for progress in found)
    running = tuple(cell for progress in found for cell in progress.running)
    left = [progress.seconds_left for progress in found if progress.seconds_left is not None]
    return replace(latest, tokens_per_second=rates, running=running, seconds_left=min(left, default=None))


class Meter:
    """Writes how far this process is about once a second, and tells whoever wants to know.

    Args:
        store: of the experiment.
        tell: called with what was written.
    """

    def __init__(self, store: Store, tell: Callable[[Progress], None] | None = None) -> None:
        self.store, self._tell = store, tell
        self._path = store.folder / f"progress-{process_name()}.json"
        self._began, self._before, self._next = perf_counter(), len(store), 0.0
        self._tokens, self._state = 0, ""
        self.running: dict[str, Cell] = {}
        for path, progress in _files(store.folder):
            if time.time() - progress.updated > STALE:
                path.unlink(missing_ok=True)

    def finished(self, record: Record) -> None:
        """A cell is finished."""
        self._tokens += len(record.tokens)
        self.running.pop(record.key, None)

    def tick(self, state: str) -> None:
        """Write, if it is time, or something else is done than before."""
        if state == self._state and perf_counter() < self._next:
            return
        self._state = state
        self._next = perf_counter() + EVERY
        progress = self._progress(state)
        scratch = self._path.with_suffix(".part")
        try:
            scratch.write_text(json.dumps(asdict(progress)), encoding="utf-8")
            os.replace(scratch, self._path)
        except OSError:  # a display that can't be written must not end a run; results that can't be, do
            scratch.unlink(missing_ok=True)
        if self._tell is not None:
            self._tell(progress)

    def close(self) -> None:
        """This process is no longer at work."""
        self._path.unlink(missing_ok=True)

    def _progress(self, state: str) -> Progress:
        rows, seconds = rows_of(self.store), perf_counter() - self._began
        finished, total = sum(row.finished for row in rows), sum(row.total for row in rows)
        new = finished - self._before
        left = (total - finished) * seconds / new if new > 0 else None
        running = tuple((cell.strategy, cell.prompt, cell.sample) for cell in self.running.values())
        return Progress(state, rows, self._tokens / seconds if seconds else 0.0, left, running)


def _files(folder: Path) -> Iterable[tuple[Path, Progress]]:
    for path in folder.glob("progress-*.json"):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(Row(**row) for row in said.pop("rows"))
            running = tuple((strategy, prompt, sample) for strategy, prompt, sample in said.pop("running"))
            yield path, Progress(rows=rows, running=running, **said)
        except (OSError, ValueError, TypeError, KeyError):  # gone meanwhile, or of another version
            continue
