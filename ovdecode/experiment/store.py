"""Results on disk: nothing finished is lost and nothing is counted twice, whoever is killed at whatever instant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import StoreError
from ovdecode.experiment.cells import Cells, Versions
from ovdecode.experiment.journal import BODY, Journal, Journals, process_name
from ovdecode.experiment.journal import parse as parse_line
from ovdecode.experiment.manifest import read_manifest, read_store, versions_of, write_manifest
from ovdecode.experiment.measurements import Measurements
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record

if TYPE_CHECKING:
    import pandas

    from ovdecode.model import Model

_NOWHERE, _APPENDED = -1, -2
"""In place of a file's number: not there; and there, but not looked up yet."""

_KEY = slice(BODY + len('"key":"'), BODY + len('"key":"') + 32)
_SOUND = b',"error":null,'
COSTS = ("length", "logprob", "forwards", "model_tokens", "seconds", "time_to_first_token", "cache_bytes")
_COSTS = re.compile(rb".*?".join(rb'"%s":([^,]*),' % name.encode() for name in COSTS))
"""Where they are in a line; in a text, the quotes around a name would be escaped."""


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
        measurements: what metrics say of the results.
    """

    def __init__(self, folder: Path, experiment: Experiment, prompts: list[Prompt], made_with: Versions) -> None:
        self.folder, self.experiment, self.prompts, self.versions = folder, experiment, prompts, made_with
        self.cells = Cells(experiment, prompts, made_with)
        self._places: dict[str, list[int]] = {}  # several where prompts are equal: one result is that of all
        keys = list(self.cells.keys())
        for place, key in enumerate(keys):
            self._places.setdefault(key, []).append(place)
        self._keys = np.array(keys, "S32")
        self._files = np.full(len(self.cells), _NOWHERE, np.int32)
        self._offsets = np.zeros(len(self.cells), np.int64)
        self.failed = np.zeros(len(self.cells), np.bool_)
        name = process_name()
        self._results, self._new_results = Journals(folder, "results"), Journal(folder / f"results-{name}.jsonl")
        self.measurements = Measurements(self, name)
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
        if folder.is_file():
            raise StoreError(f"`{folder}` must be the folder of a store, but it is a file; `ovdecode run` makes stores")
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
        return self._results.damaged + self.measurements.damaged

    def __len__(self) -> int:
        """How many cells are finished."""
        return int(np.count_nonzero(self.finished))

    def keys(self) -> set[str]:
        """The keys of the finished cells."""
        return {key for key, places in self._places.items() if self._files[places[0]] != _NOWHERE}

    def places(self, key: str) -> Items[int]:
        """The places of the cells with a key: several where prompts are equal, none for a cell of other parameters."""
        return self._places.get(key, ())

    def set_places(self, model: int, strategy: int) -> NDArray[np.int64]:
        """The places of the cells of one model and strategy that are finished and did not fail."""
        good = (self.finished & ~self.failed).reshape(self.shape)[model, :, strategy]
        places: NDArray[np.int64] = np.arange(len(self.cells)).reshape(self.shape)[model, :, strategy][good]
        return places

    def key_bytes(self, places: NDArray[np.int64]) -> NDArray[np.bytes_]:
        """The keys of the cells at some places, as an array."""
        keys: NDArray[np.bytes_] = self._keys[places]
        return keys

    def refresh(self) -> None:
        """Look up what was appended since the last time, by any process."""
        for number, offset, line in self._results.new():
            sound = line.startswith(_SOUND, _KEY.stop + 1)
            for place in self.places(line[_KEY].decode("ascii", "replace")):
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
            values = _COSTS.search(line)
            assert values is not None  # the line is whole, and of this format
            found[:, place] = [np.nan if value == b"null" else float(value) for value in values.groups()]
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
        self.measurements.close()

    def values(self, metric: str) -> NDArray[np.float64]:
        """What a metric, one of the experiment's by its spec string, says of each cell: see `Measurements.values`."""
        return self.measurements.values(metric)

    def set_values(self, metric: str) -> NDArray[np.float64]:
        """What a metric of whole sets says, shape (models, strategies): see `Measurements.set_values`."""
        return self.measurements.set_values(metric)

    # In a notebook.

    def _repr_html_(self) -> str:
        from ovdecode.experiment.table import summary

        return summary(self)._repr_html_()

    def to_pandas(self) -> pandas.DataFrame:
        """The results as a data frame: a row for each finished cell, with the columns of an export.

        Raises:
            ConfigurationError: if pandas is not installed.
        """
        from ovdecode.experiment import export, frames

        return frames.data_frame(export.rows(self), export.columns(self))
