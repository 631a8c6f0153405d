"""Who decodes what: workers get cells as they have room, and what a lost one had not finished goes to others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ovdecode.errors import WorkerError
from ovdecode.experiment.cells import Cell
from ovdecode.experiment.executors.contract import Work
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record

ROOM = 72
"""How many cells a worker holds: the 64 that its engine runs at once, and some to go on with."""
TRIES = 3
"""How many workers a cell may take with it. The last of them decodes nothing else, so that the blame is its alone."""
PATIENCE = 4
"""How many losses in a row, for each worker that there is, end the run if nothing is finished in between."""
POLL = 0.2
"""Seconds after which the caller is asked whether to go on, even if there is no news."""


@dataclass(frozen=True)
class Joined:
    """A worker is there. The name of one that has left is not used again."""

    worker: str


@dataclass(frozen=True)
class Left:
    """A worker is no longer there; what it holds is lost."""

    worker: str
    why: str


@dataclass(frozen=True)
class Refused:
    """A worker says that it can't decode the experiment."""

    why: str


News: TypeAlias = Record | Joined | Left | Refused


class Crew(Protocol):
    """Workers, wherever they are."""

    def give(self, worker: str, cell: Cell, prompt: Prompt) -> None:
        """Hand a cell to a worker."""

    def news(self, seconds: float) -> list[News]:
        """What has happened; waits until something has, at most for a time. Those that left are replaced, if they can.

        Raises:
            WorkerError: if there can be no workers any more.
        """

    def close(self) -> None:
        """Stop all of them."""


def dispatch(
    hire: Callable[[], Crew], experiment: Experiment, work: Iterable[Work]
) -> Generator[list[Record], None, None]:
    """Have cells decoded by a crew; an executor, but for its first argument.

    Args:
        hire: gives the crew; is called when there is a first cell.
        experiment: what the cells are of.
        work: the cells.

    Raises:
        WorkerError: if workers can't decode the experiment, or none of them finishes anything.
    """
    board = Board(experiment, iter(work))
    if board.done:
        return
    with closing(hire()) as crew:
        while not board.done:
            for worker, cell, prompt in board.fill():
                crew.give(worker, cell, prompt)
            yield board.note(crew.news(POLL))
            if board.failure is not None:
                raise board.failure


@dataclass
class _Item:
    cell: Cell
    prompt: Prompt
    losses: int = 0

    @property
    def suspect(self) -> bool:
        """Whether it is to be decoded with nothing beside it."""
        return self.losses == TRIES - 1


class Board:
    """Which worker holds which cells.

    Args:
        experiment: what the cells are of.
        work: the cells; taken as workers have room for them.

    Attributes:
        failure: why it can't go on, if it can't.
    """

    def __init__(self, experiment: Experiment, work: Iterator[Work]) -> None:
        self._experiment, self._work = experiment, work
        self._held: dict[str, dict[str, _Item]] = {}
        self._ready, self._suspects = deque[_Item](), deque[_Item]()
        self._losses = 0
        self.failure: WorkerError | None = None
        self._draw()

    @property
    def done(self) -> bool:
        """Whether everything is finished."""
        return not (self._ready or self._suspects or any(self._held.values()))

    def fill(self) -> Iterator[tuple[str, Cell, Prompt]]:
        """Who is to get what now: whoever holds the fewest comes first; suspects wait until a worker holds nothing."""
        while open_ := [worker for worker, held in self._held.items() if _has_room(held)]:
            worker = min(open_, key=lambda each: len(self._held[each]))
            held = self._held[worker]
            if self._ready:
                item = self._ready.popleft()
            elif self._suspects and not held:
                item = self._suspects.popleft()
            else:
                return
            held[item.cell.key] = item
            self._draw()
            yield worker, item.cell, item.prompt

    def note(self, news: Iterable[News]) -> list[Record]:
        """Take in what has happened.

        Returns:
            The records of what is finished, or given up.
        """
        records = []
        for each in news:
            if isinstance(each, Joined):
                self._held[each.worker] = {}
            elif isinstance(each, Left):
                records += self._lose(each)
            elif isinstance(each, Refused):
                self.failure = WorkerError(f"a worker can't decode this experiment: {each.why}")
            elif any(held.pop(each.key, None) for held in self._held.values()):  # else of one that was taken for lost
                self._losses = 0
                records.append(each)
        return records

    def _draw(self) -> None:
        """Have the next cell ready, if there is one."""
        if not self._ready and (item := next(self._work, None)) is not None:
            self._ready.append(_Item(*item))

    def _lose(self, left: Left) -> list[Record]:
        bound = PATIENCE * len(self._held)
        lost = list(self._held.pop(left.worker).values())
        self._losses += bool(lost)
        if self._losses > bound:
            self.failure = WorkerError(
                f"workers must stay until they have finished something, but {self._losses} in a row did not: the last "
                f"one {left.why}. What was finished is kept"
            )
            return []
        for item in lost:
            item.losses += 1
        self._ready.extendleft(reversed([item for item in lost if item.losses < TRIES - 1]))  # they come next
        self._suspects.extend(item for item in lost if item.suspect)
        error = f"WorkerError: {TRIES} workers were lost over this; the last one {left.why}"
        given_up = [item.cell for item in lost if item.losses == TRIES]
        return [Record.unfinished(cell, self._experiment, error) for cell in given_up]


def _has_room(held: dict[str, _Item]) -> bool:
    return len(held) < ROOM and not any(item.suspect for item in held.values())
