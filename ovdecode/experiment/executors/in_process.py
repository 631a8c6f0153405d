"""Decoding in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from ovdecode.experiment.cells import Cell
from ovdecode.experiment.executors.contract import Work
from ovdecode.experiment.executors.tasks import Tasks
from ovdecode.experiment.loaded import Models
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.record import Record

if TYPE_CHECKING:
    from ovdecode.engine import Task
    from ovdecode.model import Model


class InProcess:
    """Decodes cells in this process, in one engine: all of them share its batches.

    Args:
        models: gives the model of a source; by default it is loaded as the experiment says.
    """

    def __init__(self, models: Callable[[str], Model] | None = None) -> None:
        self._models = models

    def __call__(self, experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        """The records of each round."""
        from ovdecode.engine import Engine
        from ovdecode.generation import Generation

        make = Tasks(experiment, self._models or Models(experiment))
        under_way: dict[int, Cell] = {}

        def tasks() -> Iterator[Task]:
            for index, (cell, prompt) in enumerate(work):
                task = make(cell, prompt)
                under_way[index] = cell
                yield task

        with closing(Engine().rounds(tasks())) as rounds:
            for events in rounds:
                finished = [event for event in events if isinstance(event, Generation)]
                yield [Record.of(each, under_way.pop(each.index), experiment) for each in finished]
