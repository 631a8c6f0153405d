"""Results for other programs: CSV, JSON lines, Parquet and SQL."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.record import known
from ovdecode.extras import from_extra
from ovdecode.models.atomic import published

if TYPE_CHECKING:
    from ovdecode.experiment.store import Store

COLUMNS = {
    "key": "VARCHAR", "model": "VARCHAR", "strategy": "VARCHAR", "prompt": "BIGINT", "prompt_text": "VARCHAR",
    "sample": "BIGINT", "seed": "BIGINT", "precision": "VARCHAR", "runner": "VARCHAR", "text": "VARCHAR",
    "error": "VARCHAR", "stop": "VARCHAR", "stop_detail": "VARCHAR", "length": "BIGINT", "logprob": "DOUBLE",
    "score": "DOUBLE", "forwards": "BIGINT", "model_tokens": "BIGINT", "seconds": "DOUBLE",
    "time_to_first_token": "DOUBLE", "cache_bytes": "BIGINT", "taken_back": "BIGINT", "info": "JSON",
    "tokens": "BIGINT[]", "logprobs": "DOUBLE[]",
}  # fmt: skip
"""The columns of an exported table and their types in SQL; `metric:` and its spec string names one for each metric."""


def rows(store: Store) -> Iterator[dict[str, Any]]:
    """One row a finished cell, in the order of the cells: `COLUMNS`, then the experiment's metrics of single texts."""
    metrics = {f"metric:{metric}": store.values(metric).ravel() for metric in _metrics(store)}
    places = np.flatnonzero(store.finished).tolist()
    for place, record in zip(places, store.records(places), strict=True):
        said = record.to_json() | {"prompt_text": store.prompts[record.prompt].text}
        yield {name: said[name] for name in COLUMNS} | {name: known(of[place]) for name, of in metrics.items()}


def columns(store: Store) -> list[str]:
    """The names of the columns of `rows`."""
    return [*COLUMNS, *(f"metric:{metric}" for metric in _metrics(store))]


def _metrics(store: Store) -> list[str]:
    """The metrics that say something of single texts."""
    return [metric for metric in store.experiment.metrics if store.measurements.measured(metric).any()]


def export(store: Store, file: str | Path) -> None:
    """Write a store's results to a file, whole or not at all; a link is followed, and a pipe is written to.

    Args:
        store: of any experiment.
        file: `.csv`, `.jsonl` or `.parquet`; the last needs the extra `query`. What is a list is JSON in `.csv`.

    Raises:
        ConfigurationError: for a file of another kind, or if the extra is missing.
    """
    file = Path(file)
    writers = {".csv": _write_csv, ".jsonl": _write_json, ".parquet": _write_parquet}
    if file.suffix not in writers:
        raise ConfigurationError(f"results can be exported to {', '.join(writers)}, but not to `{file.name}`")
    try:
        with published(file) as scratch:
            writers[file.suffix](store, scratch)
    except OSError as error:
        raise ConfigurationError(f"`{file}` must be a file that can be written, but: {error}") from error


def query(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """What a query in SQL says of the table `results`, whose columns are those of `rows`.

    Args:
        store: of any experiment.
        sql: for DuckDB, such as `SELECT strategy, avg("metric:length") FROM results GROUP BY strategy`.

    Raises:
        ConfigurationError: if the extra `query` is missing, or DuckDB refuses the query.
    """
    return answer(store, sql)[1]


def answer(store: Store, sql: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """As `query`, with the names of the columns before the rows."""
    duckdb = _duckdb()
    with TemporaryDirectory() as folder:
        connection = _connect(store, Path(folder))
        try:
            found = connection.execute(sql)
            if found is None:
                raise ConfigurationError(f"a query must be SQL about the table `results`, got {sql!r}")
            return tuple(column[0] for column in found.description), found.fetchall()
        except duckdb.Error as error:
            raise ConfigurationError(f"a query must be SQL about the table `results`, but: {error}") from error
        finally:
            connection.close()


def _write_csv(store: Store, file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns(store))
        for row in rows(store):
            writer.writerow([json.dumps(one) if isinstance(one, list | tuple | dict) else one for one in row.values()])


def _write_json(store: Store, file: Path) -> None:
    with file.open("w", encoding="utf-8") as out:
        for row in rows(store):
            out.write(json.dumps(row) + "\n")


def _write_parquet(store: Store, file: Path) -> None:
    with TemporaryDirectory() as folder:
        connection = _connect(store, Path(folder))
        connection.table("results").write_parquet(str(file))
        connection.close()


def _connect(store: Store, folder: Path) -> Any:
    """A database with the table `results`. The rows go through a file, so that memory does not grow with them."""
    connection = _duckdb().connect()
    file = folder / "results.jsonl"
    _write_json(store, file)
    types = COLUMNS | dict.fromkeys((f"metric:{metric}" for metric in _metrics(store)), "DOUBLE")
    table = connection.read_json(str(file), columns=types, format="newline_delimited", maximum_object_size=1 << 28)
    table.create("results")
    return connection


def _duckdb() -> Any:
    return from_extra("query", "duckdb", "Parquet or SQL")
