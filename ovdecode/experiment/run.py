"""Running an experiment: the cells that are missing, in one stream, each kept as it finishes; then the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.cells import Cell
from ovdecode.experiment.claims import Claims
from ovdecode.experiment.identity import digest
from ovdecode.experiment.measure import measure
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.progress import Meter, Progress
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record
from ovdecode.experiment.store import Store
from ovdecode.interruption import Interruption, interruptible

if TYPE_CHECKING:
    from ovdecode.engine import Task
    from ovdecode.model import Model
    from ovdecode.strategy import Strategy

Work: TypeAlias = tuple[Cell, Prompt]
Executor: TypeAlias = Callable[[Experiment, Iterable[Work]], Generator[list[Record], None, None]]
"""Decodes cells wherever it wants. It pulls cells from the iterable as it has room for them, and yields the records
that were finished since the last time: often, even if there are none, since between two of these the caller shows
progress and may end the run. All that goes in and out is plain data."""

POLL = 0.2
"""Seconds between two looks at what other processes have done."""

_MEASURING = digest("measuring")


def run(
    experiment: Experiment,
    folder: str | Path,
    *,
    models: Mapping[str, Model] | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
    retry: bool = False,
) -> Store:
    """Decode what is missing of an experiment, measure what is missing, and return its store.

    Killed at any instant and run again, it does the rest, and what is then in the store is what an undisturbed run
    would have left there. Several processes may run the same experiment in the same folder: they share the work.

    Args:
        experiment: what to decode.
        folder: of the store; is made if there is none.
        models: models that are loaded already, by their source; others are loaded when their turn comes.
        executor: decodes the cells; this process by default.
        progress: called about once a second.
        retry: decode cells that failed once more.

    Raises:
        KeyboardInterrupt: after Ctrl-C, which ends it after the round under way; what is finished is kept.
        StoreError: if the store can't be read or written, as on a full disk; what is finished is kept.
    """
    loaded = Models(experiment, models or {})
    store = Store.create(folder, experiment, models)
    executor = InProcess(loaded) if executor is None else executor
    with ExitStack() as stack:
        stack.callback(store.close)
        claims = stack.enter_context(closing(Claims(store.folder / "claims")))
        meter = stack.enter_context(closing(Meter(store, progress)))
        interruption = stack.enter_context(interruptible())
        _decode(store, executor, claims, meter, interruption, retry)
        if experiment.metrics and not interruption:
            _measure(store, loaded, claims, meter, interruption)
        meter.tick("done")
    if interruption:
        raise KeyboardInterrupt
    return store


class Models:
    """The models of an experiment, each loaded when it is first asked for.

    Args:
        experiment: says how they are loaded.
        loaded: those that are there already, by their source.

    Raises:
        ConfigurationError: if one that is there runs in another precision than the experiment's.
    """

    def __init__(self, experiment: Experiment, loaded: Mapping[str, Model] | None = None) -> None:
        self._options, self._loaded = experiment.load_options(), dict(loaded or {})
        for source, model in self._loaded.items():
            if model.runner.precision != experiment.precision:
                raise ConfigurationError(
                    f"`precision` of the experiment must be that of the model `{source}`, which is "
                    f"{model.runner.precision!r}, got {experiment.precision!r}"
                )

    def __call__(self, source: str) -> Model:
        """The model of a source."""
        from ovdecode.loading import load

        if source not in self._loaded:
            self._loaded[source] = load(source, **self._options)
        return self._loaded[source]


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

        under_way: dict[int, Cell] = {}
        tasks = _tasks(experiment, work, self._models or Models(experiment), under_way)
        with closing(Engine().rounds(tasks)) as rounds:
            for events in rounds:
                finished = [event for event in events if isinstance(event, Generation)]
                yield [Record.of(each, under_way.pop(each.index), experiment) for each in finished]


def _tasks(
    experiment: Experiment, work: Iterable[Work], models: Callable[[str], Model], under_way: dict[int, Cell]
) -> Iterator[Task]:
    from ovdecode.engine import Task
    from ovdecode.spec import parse

    methods = {spec: cast("Strategy", parse(spec)) for spec in experiment.strategies}
    for index, (cell, prompt) in enumerate(work):
        task = Task(
            models(cell.model),
            prompt.content,
            methods[cell.strategy],
            experiment.max_new_tokens,
            experiment.stop,
            experiment.ignore_eos,
            experiment.seed,
            cell.sample,
        )
        under_way[index] = cell
        yield task


def _decode(
    store: Store, executor: Executor, claims: Claims, meter: Meter, interruption: Interruption, retry: bool
) -> None:
    """Decode what is missing, until nothing is: what other processes are at is waited for, or done if they die."""
    again = {store.cells[place].key for place in np.flatnonzero(store.failed).tolist()} if retry else set[str]()
    meter.tick("starting")
    while not interruption:
        missing = ~store.finished | store.failed if again else ~store.finished
        if not missing.any():
            return
        some = False
        meter.running.clear()  # what an executor lost is not under way any more
        work = _claimed(store, claims, meter, np.flatnonzero(missing).tolist(), again)
        with closing(executor(store.experiment, work)) as rounds:
            for records in rounds:
                for record in records:
                    store.append(record)
                    claims.release(record.key)
                    meter.finished(record)
                    some = True
                meter.tick("decoding")
                if interruption:
                    return
        if not some:
            time.sleep(POLL)
            store.refresh()
            meter.tick("waiting")


def _claimed(store: Store, claims: Claims, meter: Meter, places: list[int], again: set[str]) -> Iterator[Work]:
    """The cells that are still missing when their turn comes, and that no other process is at."""
    for place in places:
        cell = store.cells[place]
        if (store.finished_at(place) and cell.key not in again) or cell.key in meter.running:
            continue  # it is done, or under way for an equal prompt
        if not claims.take(cell.key):
            continue
        store.refresh()  # another process may have finished it and given it back since
        if store.finished_at(place) and cell.key not in again:
            claims.release(cell.key)
            continue
        again.discard(cell.key)
        meter.running[cell.key] = cell
        yield cell, store.prompts[cell.prompt]


def _measure(
    store: Store, models: Callable[[str], Model], claims: Claims, meter: Meter, interruption: Interruption
) -> None:
    """Measure what is missing; one process does it, others wait."""

    def go_on() -> bool:
        meter.tick("measuring")
        return not interruption

    while go_on():
        if claims.take(_MEASURING):
            measure(store, models, go_on)
            claims.release(_MEASURING)
            return
        time.sleep(POLL)
