"""What an executor is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias

from ovdecode.experiment.cells import Cell
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record

Work: TypeAlias = tuple[Cell, Prompt]
Executor: TypeAlias = Callable[[Experiment, Iterable[Work]], Generator[list[Record], None, None]]
"""Decodes cells wherever it wants. It pulls cells from the iterable as it has room for them, and yields the records
that were finished since the last time: often, even if there are none, since between two of these the caller shows
progress and may end the run. Closed, it stops all that it started. All that goes in and out is plain data."""
