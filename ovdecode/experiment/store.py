"""Results on disk: nothing that was finished is lost, nothing is counted twice, whoever is killed at whatever instant."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import StoreError
from ovdecode.experiment.environment import hardware, versions
from ovdecode.experiment.identity import digest, folder_digest, method_version, model_digest
from ovdecode.experiment.journal import BODY, Journal, Journals, encode, is_whole, process_name
from ovdecode.experiment.journal import parse as parse_line
from ovdecode.experiment.plan import Cells, Experiment, Versions
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record
from ovdecode.spec import parse

if TYPE_CHECKING:
    from ovdecode.model import Model

FORMAT = 1
"""The number changes when an older ovdecode could not read a store, or would read it wrongly."""

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
        self._places = {key: place for place, key in enumerate(self.cells.keys())}
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
    def create(
        cls, folder: str | Path, experiment: Experiment, models: Mapping[str, Model] | None = None
    ) -> Store:
        """A store for an experiment; one that is there already is opened, and goes on with this experiment.

        Args:
            folder: is made if there is none.
            experiment: what to decode.
            models: models that are loaded already, by their source.

        Raises:
            StoreError: if the folder holds something else, can't be written, or is of another version.
        """
        from filelock import FileLock

        folder = Path(folder)
        prompts = experiment.prompts.read()
        made_with = _versions(experiment, models or {})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                runs = _manifest(folder)["runs"] if (folder / "manifest.json").exists() else _empty(folder)
                lines = [encode({"index": one.index, "text": one.text, "messages": one.messages,
                                 "references": one.references}) for one in prompts]  # fmt: skip
                name = f"prompts-{digest([line[8:16].decode() for line in lines])[:16]}.jsonl"
                if not (folder / name).exists():
                    _replace(folder / name, b"".join(lines))
                run = {
                    "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                    "versions": versions(),
                    "hardware": hardware(),
                }
                current = {"experiment": experiment.plain(), "prompts": name, "identity": vars(made_with)}
                manifest = {"format": FORMAT, **current, "runs": [*runs, run]}
                _replace(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        except OSError as error:
            raise StoreError(f"`{folder}` must be a folder that can be written, but: {error}") from error
        return cls(folder, experiment, prompts, made_with)

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """A store that is there. No model and no method is needed to read it.

        Raises:
            StoreError: if there is none, or it is of another version or damaged.
        """
        folder = Path(folder)
        manifest = _manifest(folder)
        experiment = Experiment.restored(manifest["experiment"])
        return cls(folder, experiment, _read_prompts(folder / manifest["prompts"]), Versions(**manifest["identity"]))

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says: versions, hardware and configuration of every run."""
        return _manifest(self.folder)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """How many models, prompts, strategies and samples: what a value for each place can be reshaped to."""
        return self.cells.shape

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Whether the cell at a place is finished, shape (cells,)."""
        return self._files != _NOWHERE

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
        return {key for key, place in self._places.items() if self._files[place] != _NOWHERE}

    def refresh(self) -> None:
        """Look up what was appended since the last time, by any process."""
        for number, offset, line in self._results.new():
            place = self._places.get(line[_KEY].decode("ascii", "replace"))
            if place is None:
                continue
            sound = line.startswith(_SOUND, _KEY.stop + 1)
            if self._files[place] < 0 or (sound and self.failed[place]):
                self._files[place], self._offsets[place], self.failed[place] = number, offset, not sound

    def append(self, record: Record) -> None:
        """Keep a finished cell.

        Raises:
            StoreError: if it can't be written, as on a full disk; nothing that was there before is lost.
        """
        self._new_results.append(record.to_json())
        place = self._places[record.key]
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
        return self._values_of(self._named(metric)).reshape(self.shape)

    def metric_errors(self, metric: str) -> dict[int, str]:
        """What went wrong where a metric failed, by place."""
        self._refresh_measurements()
        return dict(self._errors.get(self._named(metric), {}))

    def measured(self, metric: str) -> NDArray[np.bool_]:
        """Whether a metric was measured at each place and did not fail, shape (cells,)."""
        self._refresh_measurements()
        self._values_of(self._named(metric))
        return self._measured[self._named(metric)].copy()

    def set_values(self, metric: str) -> NDArray[np.float64]:
        """What a metric of whole sets says of each model and strategy, shape (models, strategies); NaN as for `values`."""
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
        known = {group for group, value in self._sets_of(metric) if not isinstance(value, str)}
        return [group for group in np.ndindex(self.shape[0], self.shape[2]) if group not in known]  # type: ignore[misc]

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
        line = of | {"values": {self._named(spec): value if np.isfinite(value) else None for spec, value in numbers.items()}}
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
            place = self._places.get(said["key"])
            if place is None or said["basis"] != self._basis(place):
                continue
            for name, value in said["values"].items():
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
        for model, strategy in np.ndindex(self.shape[0], self.shape[2]):
            found = self._set_basis(model, strategy), self._named(metric)
            if found in self._sets:
                yield (model, strategy), self._sets[found]

    def _named(self, metric: str) -> str:
        return f"{metric}@{self.versions.metrics.get(metric, '')}"

    def _basis(self, place: int) -> str:
        """What else than the cell decides what metrics say of it: its references."""
        return self._bases[self.cells.prompt_of(place)]

    def _set_basis(self, model: int, strategy: int) -> str:
        places = self.set_places(model, strategy)
        return digest([[self.cells[place].key, self._basis(place)] for place in places])


def _versions(experiment: Experiment, models: Mapping[str, Model]) -> Versions:
    from ovdecode.models import locate

    return Versions(
        {
            source: model_digest(models[source]) if source in models else folder_digest(locate(source))
            for source in experiment.models
        },
        {spec: method_version(parse(spec)) for spec in experiment.strategies},
        {spec: method_version(parse(spec, "metric")) for spec in experiment.metrics},
        "" if experiment.stop is None else method_version(parse(experiment.stop, "stopping")),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found = manifest["format"]
    except FileNotFoundError as error:
        raise StoreError(f"`{folder}` must be a store, but it holds no manifest.json; check the path") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"`{file}` must be the manifest of a store, but it can't be read: {error!r}") from error
    if found != FORMAT:
        raise StoreError(
            f"`{folder}` must be a store of format {FORMAT}, but it is of format {found!r:.20}, which another version of "
            "ovdecode wrote; read it with that version, or use another folder"
        )
    return manifest  # type: ignore[no-any-return]


def _empty(folder: Path) -> list[Any]:
    others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    others = [name for name in others if not name.startswith("prompts-")]  # left by one that was killed before its manifest
    if others:
        raise StoreError(
            f"`{folder}` must be a store or an empty folder, but it holds {', '.join(others[:3])} and no manifest.json; "
            "choose another folder"
        )
    return []


def _read_prompts(file: Path) -> list[Prompt]:
    prompts = []
    try:
        with file.open("rb") as lines:
            for line in lines:
                if not is_whole(line):
                    raise ValueError(f"line {len(prompts) + 1} is damaged")
                said = parse_line(line)
                messages = None if said["messages"] is None else tuple(said["messages"])
                prompts.append(Prompt(said["index"], said["text"], messages, tuple(said["references"])))
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"`{file}` must hold the store's prompts, but: {error}; delete it and run the experiment again to write it anew"
        ) from error
    return prompts


def _replace(file: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, even if the machine loses its power."""
    scratch = file.with_name(f".{file.name}.part-{process_name()}")
    try:
        with scratch.open("wb") as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)
