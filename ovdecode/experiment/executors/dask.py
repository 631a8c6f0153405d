"""Decoding on a Dask cluster, whatever deployed it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from ovdecode.errors import ConfigurationError, WorkerError, describe
from ovdecode.experiment.cells import Cell
from ovdecode.experiment.executors.contract import Work
from ovdecode.experiment.executors.dispatch import Joined, Left, News, dispatch
from ovdecode.experiment.executors.local import check_count, drained, news_of
from ovdecode.experiment.executors.station import Plain, Station, assignment, description, read_plugins
from ovdecode.experiment.journal import process_name
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at which workers there are."""
FAREWELL = 5.0
"""Seconds in which workers may end what is under way, when a run ends early."""


class Dask:
    """Decodes cells on the workers of a Dask cluster; needs `pip install 'ovdecode[dask]'`, on the workers too.

    Each of Dask's worker processes has an engine and the models, loaded once. Workers may come and go: what a lost one
    had not finished is decoded by others. Nothing but text is sent, and any deployment will do whose workers have the
    same version of ovdecode and find the models under the same names.

    Args:
        scheduler: a `distributed.Client`, or what it takes: an address such as `tcp://host:8786`, or a cluster.
        plugins: Python files with methods of your own; their text is sent to the workers, which must have installed
            what these import.
        threads: CPU threads of each worker; by default the experiment's, or, if it names none, as many as Dask gives
            that worker.

    Raises:
        ConfigurationError: if Dask is not installed, a number is out of range, or a plugin file is missing.

    Example:
        >>> from ovdecode.experiment import Experiment, run
        >>> from ovdecode.experiment.executors import Dask
        >>> plan = Experiment(["greedy", "beam"], prompts=["Once upon a time"])
        >>> store = run(plan, "my.store", executor=Dask("tcp://host:8786"))       # doctest: +SKIP
    """

    def __init__(self, scheduler: Any, plugins: Iterable[str | Path] = (), threads: int | None = None) -> None:
        if find_spec("distributed") is None:
            raise ConfigurationError(
                "a Dask cluster needs `distributed`, which is not installed. Run: pip install 'ovdecode[dask]'"
            )
        check_count("threads", 1 if threads is None else threads)
        self._scheduler, self._threads, self._plugins = scheduler, threads, read_plugins(plugins)

    def __call__(self, experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        """The records as they come."""
        run = process_name()

        def described(threads: int) -> str:
            chosen = self._threads or experiment.threads or threads
            return json.dumps({"run": run, **description(experiment, self._plugins, chosen)})

        return dispatch(lambda: _Cluster(self._scheduler, run, experiment, described), experiment, work)


class _Cluster:
    """The workers of a cluster; a cell is a task for one of them, and its record is the task's result."""

    def __init__(self, scheduler: Any, run: str, experiment: Experiment, described: Callable[[int], str]) -> None:
        self._run, self._experiment, self._described = run, experiment, described
        self._client, self._ours = _connected(scheduler)
        self._descriptions: dict[str, str] = {}
        self._given: dict[str, tuple[Future[str], str, Cell]] = {}
        self._ended: SimpleQueue[Future[str]] = SimpleQueue()
        self._next_look = 0.0
        self._warned = False

    def give(self, worker: str, cell: Cell, prompt: Prompt) -> None:
        told = json.dumps(assignment(cell, prompt))
        future = self._client.submit(decode, self._descriptions[worker], told, workers=[worker], pure=False)
        self._given[future.key] = future, worker, cell
        future.add_done_callback(self._ended.put)

    def news(self, seconds: float) -> list[News]:
        news = self._comings_and_goings()
        for future in drained(self._ended, 0.0 if news else seconds):
            news += self._outcome(future)
        return news

    def _comings_and_goings(self) -> list[News]:
        if monotonic() < self._next_look:
            return []
        self._next_look = monotonic() + LOOK
        try:
            present: dict[str, int] = self._client.nthreads()
        except OSError as error:
            raise WorkerError(f"the Dask scheduler must stay, but it has gone: {error!r}") from error
        if not present and not self._warned:
            log.warning("the Dask cluster has no workers; waiting for some")
        self._warned = not present
        news: list[News] = []
        for worker in [each for each in self._descriptions if each not in present]:
            del self._descriptions[worker]
            news.append(Left(worker, "left the cluster"))
            self._cancel([key for key, (_, holder, _) in self._given.items() if holder == worker])
        for worker in [each for each in present if each not in self._descriptions]:
            self._descriptions[worker] = self._described(present[worker])
            news.append(Joined(worker))
        return news

    def _outcome(self, future: Future[str]) -> list[News]:
        from distributed import TimeoutError as DaskTimeout
        from distributed.scheduler import KilledWorker

        if future.key not in self._given:
            return []
        try:
            told = json.loads(future.result(timeout=1))
        except DaskTimeout:  # its worker was lost when it had just ended: the next look at the workers shows that
            self._ended.put(future)
            return []
        except KilledWorker as error:  # Dask has tried it by itself, on workers that came back under their old address
            cell = self._given[future.key][2]
            told = {"record": Record.unfinished(cell, self._experiment, f"KilledWorker: {error}").to_json()}
        except Exception as error:
            if future.cancelled():  # not by us
                raise WorkerError(f"the Dask scheduler must stay, but: {error}") from error
            told = {"refused": f"it must have this version of ovdecode, but: {describe(error)}"}
        del self._given[future.key]
        return [news_of(told)]

    def _cancel(self, keys: list[str]) -> None:
        self._client.cancel([self._given.pop(key)[0] for key in keys])

    def close(self) -> None:
        from distributed import TimeoutError as DaskTimeout

        end = monotonic() + FAREWELL
        with suppress(OSError, DaskTimeout):  # the cluster, or some of it, may be gone
            self._cancel(list(self._given))
            farewells = [
                self._client.submit(dismiss, self._run, workers=[worker], pure=False) for worker in self._descriptions
            ]
            for farewell in farewells:
                farewell.result(timeout=max(0.0, end - monotonic()))
        if self._ours:
            self._client.close()


def _connected(scheduler: Any) -> tuple[Client, bool]:
    """A client, and whether it is ours to close."""
    from distributed import Client

    if isinstance(scheduler, Client):
        return scheduler, False
    try:
        return Client(scheduler, set_as_default=False), True
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`scheduler` must be a Dask scheduler that answers, such as tcp://host:8786, got {scheduler!r}: {error}"
        ) from error


# What follows runs in a worker, which knows runs by their names.

_lock = Lock()
_stations: dict[str, Station] = {}
_dismissed: set[str] = set()


def decode(described: str, assigned: str) -> str:
    """Decode a cell in this worker's engine, beside all others that it has been given."""
    from distributed import secede

    answer: SimpleQueue[Plain] = SimpleQueue()
    with _lock:
        try:
            _station(json.loads(described)).submit(json.loads(assigned), answer.put)
        except Exception as error:
            return json.dumps({"refused": describe(error)})
    secede()  # waiting takes no core: the next cell may come
    return json.dumps(answer.get())


def dismiss(run: str) -> None:
    """End what a run has under way in this worker, and let go of its models."""
    with _lock:
        _dismissed.add(run)
        station = _stations.pop(run, None)
    if station is not None:
        station.close()


def _station(described: Plain) -> Station:
    run = described["run"]
    if run in _dismissed:
        raise WorkerError("its run has ended")
    if run not in _stations:
        for name in [name for name, station in _stations.items() if station.idle]:
            _stations.pop(name).close()  # of a run that was killed, say; if not, it loads its models again
        _stations[run] = Station(described)
    return _stations[run]
