"""What metrics say of the results in a store: of single texts, and of the whole set of one model and method."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovdecode.experiment.identity import digest
from ovdecode.experiment.journal import Journal, Journals, parse
from ovdecode.experiment.record import known

if TYPE_CHECKING:
    from ovdecode.experiment.store import Store

Places = NDArray[np.int64]


class Measurements:
    """The values of a store's metrics, kept beside its results in journals of their own.

    A value counts as long as what it was measured of is the same: the cell, its references and the metric's version;
    of a set, all of its cells.

    Args:
        store: whose.
        process: name of this process, for the file that it appends to.
    """

    def __init__(self, store: Store, process: str) -> None:
        self._store = store
        self._journals = Journals(store.folder, "metrics")
        self._new = Journal(store.folder / f"metrics-{process}.jsonl")
        self._values: dict[str, NDArray[np.float64]] = {}
        self._measured: dict[str, NDArray[np.bool_]] = {}
        self._errors: dict[str, dict[int, str]] = {}
        self._sets: dict[tuple[str, str], float | str | None] = {}
        self._bases = [digest(one.references)[:8] if one.references else "" for one in store.prompts]

    def values(self, metric: str) -> NDArray[np.float64]:
        """What a metric says of each cell, shape `store.shape`; NaN where it failed, says nothing or was not measured.

        Args:
            metric: spec string, one of the experiment's.
        """
        self._refresh()
        values: NDArray[np.float64] = self._values_of(self._named(metric)).reshape(self._store.shape).copy()
        return values

    def errors(self, metric: str) -> dict[int, str]:
        """What went wrong where a metric failed, by place."""
        self._refresh()
        return dict(self._errors.get(self._named(metric), {}))

    def measured(self, metric: str) -> NDArray[np.bool_]:
        """Whether a metric was measured at each place and did not fail, shape (cells,)."""
        self._refresh()
        self._values_of(self._named(metric))
        measured: NDArray[np.bool_] = self._measured[self._named(metric)].copy()
        return measured

    def set_values(self, metric: str) -> NDArray[np.float64]:
        """What a metric of whole sets says, shape (models, strategies); NaN as for `values`."""
        models, _, strategies, _ = self._store.shape
        found = np.full((models, strategies), np.nan)
        for group, value in self._sets_of(metric):
            if isinstance(value, float):
                found[group] = value
        return found

    def set_errors(self, metric: str) -> dict[tuple[int, int], str]:
        """What went wrong where a metric of whole sets failed, by model and strategy."""
        return {group: value for group, value in self._sets_of(metric) if isinstance(value, str)}

    def unmeasured_sets(self, metric: str) -> list[tuple[int, int]]:
        """The sets, by model and strategy, for which there is no value of all that is finished now."""
        done = {group for group, value in self._sets_of(metric) if not isinstance(value, str)}
        return [group for group in self._groups() if group not in done]

    def append(self, places: Items[int], values: Mapping[str, Items[float | Exception]]) -> None:
        """Keep what metrics say of some cells: one line, there whole or not at all.

        Args:
            places: of which cells.
            values: spec string of each metric to a value for each place; an exception is kept as that cell's error.

        Raises:
            StoreError: if it can't be written, as on a full disk; nothing that was there before is lost.
        """
        cells = [[self._store.cells[place].key, self._basis(place)] for place in places]
        wrong = {
            self._named(spec): {at: _said(value) for at, value in enumerate(column) if isinstance(value, Exception)}
            for spec, column in values.items()
        }
        numbers = {self._named(spec): list(map(_number, column)) for spec, column in values.items()}
        self._new.append({"cells": cells, "values": numbers, "errors": {name: of for name, of in wrong.items() if of}})

    def append_set(self, model: int, strategy: int, metric: str, value: float | Exception) -> None:
        """Keep what a metric says of the set of one model and strategy; raises as `append`."""
        error = _said(value) if isinstance(value, Exception) else None
        basis, name = self._set_basis(model, strategy), self._named(metric)
        self._new.append({"set": basis, "metric": name, "value": _number(value), "error": error})

    @property
    def damaged(self) -> int:
        """How many lines are torn or changed, and so ignored."""
        self._refresh()
        return self._journals.damaged

    def close(self) -> None:
        """Force what was appended onto the disk, and close the file."""
        self._new.close()

    def _refresh(self) -> None:
        for _, _, line in self._journals.new():
            said = parse(line)
            if "set" in said:
                self._note_set(**{name: said[name] for name in ("set", "metric", "value", "error")})
                continue
            found = [
                (at, place)
                for at, (key, basis) in enumerate(said["cells"])
                for place in self._store.places(key)
                if basis == self._basis(place)
            ]
            if found:
                at, places = np.array(found).T
                for name, values in said["values"].items():
                    errors = {int(one): error for one, error in said["errors"].get(name, {}).items()}
                    self._note(name, at, places, np.array(values, float), errors)

    def _note(
        self, name: str, at: Places, places: Places, values: NDArray[np.float64], errors: Mapping[int, str]
    ) -> None:
        """Note a metric's values, those at some indices, for the cells at some places; at others there are errors."""
        sound = ~np.isin(at, list(errors))
        self._values_of(name)[places[sound]] = values[at[sound]]
        self._measured[name][places[sound]] = True
        known = self._errors.setdefault(name, {})
        for place in places[sound].tolist() if known else ():
            known.pop(place, None)
        for index, place in zip(at[~sound].tolist(), places[~sound].tolist(), strict=True):
            if not self._measured[name][place]:
                known[place] = errors[index]

    def _note_set(self, set: str, metric: str, value: float | None, error: str | None) -> None:
        if error is None:
            self._sets[set, metric] = value
        else:
            self._sets.setdefault((set, metric), error)

    def _values_of(self, name: str) -> NDArray[np.float64]:
        if name not in self._values:
            self._values[name] = np.full(len(self._store.cells), np.nan)
            self._measured[name] = np.zeros(len(self._store.cells), np.bool_)
        return self._values[name]

    def _sets_of(self, metric: str) -> Iterator[tuple[tuple[int, int], float | str | None]]:
        self._refresh()
        for group in self._groups():
            found = self._set_basis(*group), self._named(metric)
            if found in self._sets:
                yield group, self._sets[found]

    def _groups(self) -> list[tuple[int, int]]:
        models, _, strategies, _ = self._store.shape
        return list(itertools.product(range(models), range(strategies)))

    def _named(self, metric: str) -> str:
        return f"{metric}@{self._store.versions.metrics.get(metric, '')}"

    def _basis(self, place: int) -> str:
        """What else than the cell decides what metrics say of it: its references."""
        return self._bases[self._store.cells.prompt_of(place)]

    def _set_basis(self, model: int, strategy: int) -> str:
        """The same for a set: the cells that are finished, each with its references, whatever their order."""
        places = self._store.set_places(model, strategy)
        prompts = np.unravel_index(places, self._store.shape)[1]
        bases = np.array(self._bases, "S8")[prompts]
        members = np.char.add(self._store.key_bytes(places), bases)
        return blake2b(np.sort(members).tobytes(), digest_size=16).hexdigest()


def _number(value: float | Exception) -> float | None:
    return None if isinstance(value, Exception) else known(float(value))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
