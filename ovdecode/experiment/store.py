"""Results on disk: nothing finished is lost and nothing is counted twice, whoever is killed at whatever instant."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ovdecode.experiment.cells import Cells, Versions
from ovdecode.experiment.identity import digest
from ovdecode.experiment.journal import BODY, Journal, Journals, process_name
from ovdecode.experiment.journal import parse as parse_line
from ovdecode.experiment.manifest import read_manifest, read_store, versions_of, write_manifest
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record, known

if TYPE_CHECKING:
    from ovdecode.model import Model

_NOWHERE, _APPENDED = -1, -2
"""In place of a file's number: not there; and there, but not looked up yet."""

_KEY = slice(BODY + len('"key":"'), BODY + len('"key":"') + 32)
_SOUND = b',"error":null,'
_LONG = b'},"text":'
"""What ends the short part of a line: in a string, the quotes would be escaped."""
COSTS = ("length", "logprob", "forwards", "model_tokens", "seconds", "time_to_first_token", "cache_bytes")


class Store:
    """The results of an experiment in a folder.

    A folder keeps every result ever appended. Those seen are the ones whose key is of a cell of the current experiment:
    when a parameter changes, the cells that it changes are missing, and when it changes back they are there again.

    Whatever is finished is one line of an append-only file, with a checksum, written at once. Each process has files of
    its own. A line that is torn or changed is ignored and counted in `damaged`; its cell is decoded again.

    Attributes:
        folder: where it is.
        experiment: the current one.
        prompts: its prompts.
        cells: its cells, in order; a cell's number in it is its place.
        failed: whether the cell at a place is finished and failed, shape (cells,).
    """

    def __init__(self, folder: Path, experiment: Experiment, prompts: list[Prompt], made_with: Versions) -> None:
        self.folder, self.experiment, self.prompts, self.versions = folder, experiment, prompts, made_with
        self.cells = Cells(experiment, prompts, made_with)
        self._places: dict[str, list[int]] = {}  # several where prompts are equal: one result is that of all
        for place, key in enumerate(self.cells.keys()):
            self._places.setdefault(key, []).append(place)
        self._files = np.full(len(self.cells), _NOWHERE, np.int32)
        self._offsets = np.zeros(len(self.cells), np.int64)
        self.failed = np.zeros(len(self.cells), np.bool_)
        name = process_name()
        self._results, self._measurements = Journals(folder, "results"), Journals(folder, "metrics")
        self._new_results = Journal(folder / f"results-{name}.jsonl")
        self._new_measurements = Journal(folder / f"metrics-{name}.jsonl")
        self._values: dict[str, NDArray[np.float64]] = {}
        self._measured: dict[str, NDArray[np.bool_]] = {}
        self._errors: dict[str, dict[int, str]] = {}
        self._sets: dict[tuple[str, str], float | str | None] = {}
        self._bases = [digest(one.references)[:8] if one.references else "" for one in prompts]
        self.refresh()

    @classmethod
    def create(cls, folder: str | Path, experiment: Experiment, models: Mapping[str, Model] | None = None) -> Store:
        """A store for an experiment; one that is there already is opened, and goes on with this experiment.

        Args:
            folder: is made if there is none.
            experiment: what to decode.
            models: models that are loaded already, by their source.

        Raises:
            StoreError: if the folder holds something else, can't be written, or is of another version.
        """
        folder = Path(folder)
        prompts = experiment.prompts.read()
        made_with = versions_of(experiment, models or {})
        write_manifest(folder, experiment, prompts, made_with)
        return cls(folder, experiment, prompts, made_with)

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """A store that is there. No model and no method is needed to read it.

        Raises:
            StoreError: if there is none, or it is of another version or damaged.
        """
        folder = Path(folder)
        return cls(folder, *read_store(folder))

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says: the experiment, and versions and hardware of every run."""
        return read_manifest(self.folder)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """How many models, prompts, strategies and samples: what a value for each place can be reshaped to."""
        return self.cells.shape

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Whether the cell at a place is finished, shape (cells,)."""
        finished: NDArray[np.bool_] = self._files != _NOWHERE
        return finished

    def finished_at(self, place: int) -> bool:
        """Whether the cell at a place is finished."""
        return bool(self._files[place] != _NOWHERE)

    @property
    def damaged(self) -> int:
        """How many lines are torn or changed, and so ignored."""
        self.refresh()
        self._refresh_measurements()
        return self._results.damaged + self._measurements.damaged

    def __len__(self) -> int:
        """How many cells are finished."""
        return int(np.count_nonzero(self.finished))

    def keys(self) -> set[str]:
        """The keys of the finished cells."""
        return {key for key, places in self._places.items() if self._files[places[0]] != _NOWHERE}

    def refresh(self) -> None:
        """Look up what was appended since the last time, by any process."""
        for number, offset, line in self._results.new():
            sound = line.startswith(_SOUND, _KEY.stop + 1)
            for place in self._places.get(line[_KEY].decode("ascii", "replace"), ()):
                if self._files[place] < 0 or (sound and self.failed[place]):
                    self._files[place], self._offsets[place], self.failed[place] = number, offset, not sound

    def append(self, record: Record) -> None:
        """Keep a finished cell.

        Raises:
            StoreError: if it can't be written, as on a full disk; nothing that was there before is lost.
        """
        self._new_results.append(record.to_json())
        for place in self._places[record.key]:
            if self._files[place] == _NOWHERE or self.failed[place]:
                self._files[place], self.failed[place] = _APPENDED, record.error is not None

    def records(self, places: Iterable[int] | None = None) -> Iterator[Record]:
        """The finished cells' records, one by one, in the order of the cells: how they were finished changes nothing.

        Args:
            places: of which cells; of all if None. Those that are not finished are left out.
        """
        for place, line in self._lines(places):
            cell = self.cells[place]
            # The prompt may have had another index, and the model another name, when this was decoded.
            yield Record.from_json({**parse_line(line), "prompt": cell.prompt, "model": cell.model})

    def costs(self) -> dict[str, NDArray[np.float64]]:
        """What is known of each cell but its text, by the names of `COSTS`, each of shape `self.shape`.

        NaN where a cell is not finished or failed. Takes a tenth of the time in which the records can be read.
        """
        found = np.full((len(COSTS), len(self.cells)), np.nan)
        for place, line in self._lines(np.flatnonzero(self.finished & ~self.failed).tolist()):
            values = parse_line(line[: line.index(_LONG)] + b"}}")
            found[:, place] = [np.nan if values[name] is None else values[name] for name in COSTS]
        return {name: row.reshape(self.shape) for name, row in zip(COSTS, found, strict=True)}

    def _lines(self, places: Iterable[int] | None = None) -> Iterator[tuple[int, bytes]]:
        self.refresh()
        with ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for place in np.flatnonzero(self.finished).tolist() if places is None else places:
                number = int(self._files[place])
                if number < 0:
                    continue
                if number not in files:
                    files[number] = stack.enter_context(self._results.paths[number].open("rb"))
                files[number].seek(int(self._offsets[place]))
                yield place, files[number].readline()

    def close(self) -> None:
        """Force what was appended onto the disk, and close the files; an `append` opens new ones."""
        self._new_results.close()
        self._new_measurements.close()

    # Metrics.

    def values(self, metric: str) -> NDArray[np.float64]:
        """What a metric says of each cell, shape `self.shape`; NaN where it failed, does not apply or was not measured.

        Args:
            metric: spec string, one of the experiment's.
        """
        self._refresh_measurements()
        values: NDArray[np.float64] = self._values_of(self._named(metric)).reshape(self.shape).copy()
        return values

    def metric_errors(self, metric: str) -> dict[int, str]:
        """What went wrong where a metric failed, by place."""
        self._refresh_measurements()
        return dict(self._errors.get(self._named(metric), {}))

    def measured(self, metric: str) -> NDArray[np.bool_]:
        """Whether a metric was measured at each place and did not fail, shape (cells,)."""
        self._refresh_measurements()
        self._values_of(self._named(metric))
        measured: NDArray[np.bool_] = self._measured[self._named(metric)].copy()
        return measured

    def set_values(self, metric: str) -> NDArray[np.float64]:
        """What a metric of whole sets says, shape (models, strategies); NaN as for `values`."""
        found = np.full((self.shape[0], self.shape[2]), np.nan)
        for (model, strategy), value in self._sets_of(metric):
            if isinstance(value, float):
                found[model, strategy] = value
        return found

    def set_errors(self, metric: str) -> dict[tuple[int, int], str]:
        """What went wrong where a metric of whole sets failed, by model and strategy."""
        return {group: value for group, value in self._sets_of(metric) if isinstance(value, str)}

    def unmeasured_sets(self, metric: str) -> list[tuple[int, int]]:
        """The sets, by model and strategy, for which there is no value of all that is finished now."""
        done = {group for group, value in self._sets_of(metric) if not isinstance(value, str)}
        return [group for group in self._groups() if group not in done]

    def set_places(self, model: int, strategy: int) -> list[int]:
        """The places of the cells of one model and strategy that are finished and did not fail."""
        good = (self.finished & ~self.failed).reshape(self.shape)[model, :, strategy]
        places = np.arange(len(self.cells)).reshape(self.shape)[model, :, strategy]
        return places[good].tolist()  # type: ignore[no-any-return]

    def append_values(self, place: int, values: Mapping[str, float | Exception]) -> None:
        """Keep what metrics, by their spec strings, say of a cell; an exception is kept as that cell's error."""
        self._append_measurement({"key": self.cells[place].key, "basis": self._basis(place)}, values)

    def append_set_values(self, model: int, strategy: int, values: Mapping[str, float | Exception]) -> None:
        """Keep what metrics say of the set of one model and strategy."""
        self._append_measurement({"set": self._set_basis(model, strategy)}, values)

    def _append_measurement(self, of: dict[str, Any], values: Mapping[str, float | Exception]) -> None:
        errors = {spec: value for spec, value in values.items() if isinstance(value, Exception)}
        numbers = {spec: float(value) for spec, value in values.items() if not isinstance(value, Exception)}
        line = of | {"values": {self._named(spec): known(value) for spec, value in numbers.items()}}
        if errors:
            line["errors"] = {self._named(spec): f"{type(error).__name__}: {error}" for spec, error in errors.items()}
        self._new_measurements.append(line)

    def _refresh_measurements(self) -> None:
        for _, _, line in self._measurements.new():
            said = parse_line(line)
            errors = said.get("errors", {})
            if "set" in said:
                for name, error in errors.items():
                    self._sets.setdefault((said["set"], name), error)
                self._sets.update({(said["set"], name): value for name, value in said["values"].items()})
                continue
            for place in self._places.get(said["key"], ()):
                if said["basis"] == self._basis(place):
                    self._note_values(place, said["values"], errors)

    def _note_values(self, place: int, values: Mapping[str, float | None], errors: Mapping[str, str]) -> None:
        for name, value in values.items():
            self._values_of(name)[place] = np.nan if value is None else value
            self._measured[name][place] = True
            self._errors.get(name, {}).pop(place, None)
        for name, error in errors.items():
            self._values_of(name)
            if not self._measured[name][place]:
                self._errors.setdefault(name, {})[place] = error

    def _values_of(self, name: str) -> NDArray[np.float64]:
        if name not in self._values:
            self._values[name] = np.full(len(self.cells), np.nan)
            self._measured[name] = np.zeros(len(self.cells), np.bool_)
        return self._values[name]

    def _sets_of(self, metric: str) -> Iterator[tuple[tuple[int, int], float | str | None]]:
        self._refresh_measurements()
        for model, strategy in self._groups():
            found = self._set_basis(model, strategy), self._named(metric)
            if found in self._sets:
                yield (model, strategy), self._sets[found]

    def _groups(self) -> list[tuple[int, int]]:
        return list(itertools.product(range(self.shape[0]), range(self.shape[2])))

    def _named(self, metric: str) -> str:
        return f"{metric}@{self.versions.metrics.get(metric, '')}"

    def _basis(self, place: int) -> str:
        """What else than the cell decides what metrics say of it: its references."""
        return self._bases[self.cells.prompt_of(place)]

    def _set_basis(self, model: int, strategy: int) -> str:
        places = self.set_places(model, strategy)
        return digest([[self.cells[place].key, self._basis(place)] for place in places])
