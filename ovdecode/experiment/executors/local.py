"""Decoding in processes of this machine."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, TypeAlias, TypeVar, cast

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.cells import Cell
from ovdecode.experiment.environment import usable_cores
from ovdecode.experiment.executors.contract import Work
from ovdecode.experiment.executors.dispatch import Joined, Left, News, Refused, dispatch
from ovdecode.experiment.executors.station import Plain, assignment, description, read_plugins
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record
from ovdecode.plugin import is_whole

Item = TypeVar("Item")
_Inbox: TypeAlias = "SimpleQueue[Plain | Left]"


class LocalProcesses:
    """Decodes cells in processes of their own, each with an engine and with the models, loaded once.

    One engine uses all cores of a small machine, and holds the model once: try `InProcess` first. Processes pay where
    a method's Python takes long beside the model, where there are many cores, and where a process may die: that loses
    what it had not finished, which others then decode, and a new one takes its place.

    Args:
        count: how many processes.
        plugins: Python files with methods of your own, for each process to run. Methods that are defined in a script
            or a notebook are not known there.
        threads: CPU threads of each process; by default those of the experiment (or, if it names none, the cores that
            there are) divided among them.

    Raises:
        ConfigurationError: if a number is out of range, or a plugin file is missing.

    Example:
        >>> from ovdecode.experiment import Experiment, run
        >>> from ovdecode.experiment.executors import LocalProcesses
        >>> plan = Experiment(["greedy", "beam"], prompts=["Once upon a time"])
        >>> store = run(plan, "my.store", executor=LocalProcesses(2))             # doctest: +SKIP
    """

    def __init__(self, count: int, plugins: Iterable[str | Path] = (), threads: int | None = None) -> None:
        check_count("count", count)
        check_count("threads", 1 if threads is None else threads)
        self._count, self._threads, self._plugins = count, threads, read_plugins(plugins)

    def __call__(self, experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        """The records as they come."""
        threads = self._threads or max(1, (experiment.threads or usable_cores()) // self._count)
        described = description(experiment, self._plugins, threads)
        return dispatch(partial(_Processes, self._count, described), experiment, work)


class _Processes:
    """So many processes at any time: one that ends is replaced."""

    def __init__(self, count: int, described: Plain) -> None:
        self._count, self._described = count, described
        self._names = map(str, itertools.count())
        self._processes: dict[str, _Process] = {}
        self._inbox: _Inbox = SimpleQueue()

    def give(self, worker: str, cell: Cell, prompt: Prompt) -> None:
        self._processes[worker].tell(assignment(cell, prompt))

    def news(self, seconds: float) -> list[News]:
        news: list[News] = []
        while len(self._processes) < self._count:
            name = next(self._names)
            self._processes[name] = _Process(name, self._described, self._inbox)
            news.append(Joined(name))
        for told in drained(self._inbox, 0.0 if news else seconds):
            if isinstance(told, Left):
                self._processes.pop(told.worker).close()
                news.append(told)
            else:
                news.append(news_of(told))
        return news

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.close()


class _Process:
    """A process, and two threads that write to it and read from it: neither of the two sides ever waits."""

    def __init__(self, name: str, described: Plain, inbox: _Inbox) -> None:
        threads = str(described["experiment"]["threads"])
        code = f"import sys; sys.path[:] = {list(map(str, sys.path))!r}; from {_PROCESS} import main; main()"
        self._popen = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OMP_NUM_THREADS": threads, **os.environ},
            start_new_session=True,  # Ctrl-C is for us: we say when it ends
        )
        self._outbox: SimpleQueue[Plain | None] = SimpleQueue()
        self._outbox.put(described)
        self._threads = [Thread(target=self._write), Thread(target=self._read, args=(name, inbox))]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def tell(self, values: Plain) -> None:
        self._outbox.put(values)

    def kill(self) -> None:
        self._popen.kill()

    def close(self) -> None:
        self.kill()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with suppress(OSError), cast(IO[bytes], self._popen.stdin) as pipe:  # has it ended? `_read` says so
            while (values := self._outbox.get()) is not None:
                pipe.write(json.dumps(values).encode() + b"\n")
                pipe.flush()

    def _read(self, name: str, inbox: _Inbox) -> None:
        with cast(IO[bytes], self._popen.stdout) as pipe:
            for line in pipe:
                if line.endswith(b"\n"):  # else it was killed in the midst of it
                    inbox.put(json.loads(line))
        inbox.put(Left(name, _ending(self._popen.wait())))


_PROCESS = "ovdecode.experiment.executors.process"


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def news_of(told: Plain) -> Record | Refused:
    """What a worker tells: the record of a cell, or why there is none."""
    return Refused(told["refused"]) if "refused" in told else Record.from_json(told["record"])


def check_count(name: str, value: int) -> None:
    """Raise a `ConfigurationError` unless a parameter counts something."""
    if not is_whole(value) or value < 1:
        raise ConfigurationError(f"`{name}` must be a whole number of at least 1, got {value!r}")


def drained(queue: SimpleQueue[Item], seconds: float) -> list[Item]:
    """All that is in a queue; if nothing is, the first that comes in a time."""
    items = []
    with suppress(Empty):
        items.append(queue.get(timeout=seconds) if seconds else queue.get_nowait())
        while True:
            items.append(queue.get_nowait())
    return items
