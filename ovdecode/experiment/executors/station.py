"""What a worker does, wherever it runs: cells in and records out, all of it in JSON's own types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from ovdecode.clients.worker import Worker
from ovdecode.errors import UnknownNameError, WorkerError, describe
from ovdecode.experiment.cells import Cell, Cells
from ovdecode.experiment.executors.tasks import Tasks
from ovdecode.experiment.loaded import Models
from ovdecode.experiment.manifest import versions_of
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record
from ovdecode.generation import Generation
from ovdecode.plugin_files import load_plugin, read_plugin_file

Plain: TypeAlias = dict[str, Any]


def read_plugins(files: Iterable[str | Path]) -> list[tuple[str, str]]:
    """Plugin files by path, with their text: where a worker has no such file, the text is enough.

    Raises:
        ConfigurationError: if one is missing.
    """
    return [(str(Path(file).resolve()), read_plugin_file(file)) for file in files]


def description(experiment: Experiment, plugins: list[tuple[str, str]], threads: int) -> Plain:
    """All that a worker is told before its first cell."""
    apart = {"prompts": ["each comes with its cell"], "metrics": [], "threads": threads}
    return {"experiment": {**experiment.plain(), **apart}, "plugins": plugins}


def assignment(cell: Cell, prompt: Prompt) -> Plain:
    """All that a worker is told of a cell."""
    return {"cell": asdict(cell), "prompt": asdict(prompt)}


class Station:
    """Decodes cells in an engine of its own thread; each model is loaded when its first cell comes, and once.

    Args:
        described: what `description` gave, after JSON.

    Raises:
        ConfigurationError: if a plugin file does not run.
        WorkerError: if a method is not known here.
    """

    def __init__(self, described: Plain) -> None:
        for path, text in described["plugins"]:
            load_plugin(path, text)
        try:
            self._experiment = Experiment.of(described["experiment"])
        except UnknownNameError as error:
            raise WorkerError(
                f"{error}. A worker knows the methods of installed packages, and of files that it is given "
                "(`plugins`, on the command line `--plugin FILE.py`)"
            ) from error
        self._cells = Cells(self._experiment, (), versions_of(self._experiment, {}))
        self._tasks = Tasks(self._experiment, Models(self._experiment))
        self._worker = Worker()
        self._under_way: set[Future[Generation]] = set()

    def submit(self, assigned: Plain, tell: Callable[[Plain], None]) -> None:
        """Decode a cell with those that are under way.

        Args:
            assigned: what `assignment` gave, after JSON.
            tell: is called once, in any thread, with the `record`, or with why there is none, `refused`.

        Raises:
            WorkerError: if what is here would give another result than where the run was started.
        """
        cell, prompt = Cell(**assigned["cell"]), Prompt.restored(assigned["prompt"])
        if self._cells.key(cell.model, prompt, cell.strategy, cell.sample) != cell.key:
            raise WorkerError(
                f"`{cell.model}` and `{cell.strategy}` must be the same here and where the run was started, but the "
                "model's files, the method's source or the version of ovdecode differ; give all workers the same"
            )

        def pass_on(done: Future[Generation]) -> None:
            self._under_way.discard(done)
            try:
                told: Plain = {"record": Record.of(done.result(), cell, self._experiment).to_json()}
            except Exception as error:
                told = {"refused": describe(error)}
            tell(told)

        future = self._worker.submit(self._tasks(cell, prompt))
        self._under_way.add(future)
        future.add_done_callback(pass_on)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def close(self) -> None:
        """Cancel what is under way; of that, `tell` is told."""
        self._worker.close()
