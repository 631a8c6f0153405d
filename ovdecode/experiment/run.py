"""Running an experiment: the cells that are missing, in one stream, each kept as it finishes; then the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ovdecode.experiment.claims import Claims
from ovdecode.experiment.executors import Executor, InProcess, Work
from ovdecode.experiment.identity import digest
from ovdecode.experiment.loaded import Models
from ovdecode.experiment.measure import measure
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.progress import Meter, Progress
from ovdecode.experiment.store import Store
from ovdecode.interruption import Interruption, interruptible

if TYPE_CHECKING:
    from ovdecode.model import Model

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
        executor: decodes the cells: this process by default, `LocalProcesses` or `Dask`.
        progress: called about once a second.
        retry: decode cells that failed once more.

    Raises:
        KeyboardInterrupt: after Ctrl-C, which ends it after the round under way; what is finished is kept.
        StoreError: if the store can't be read or written, as on a full disk; what is finished is kept.
        WorkerError: if workers can't decode it, or are lost again and again; what is finished is kept.
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
