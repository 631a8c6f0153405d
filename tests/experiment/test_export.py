"""Results for other programs."""

from __future__ import annotations

import csv
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from experiment_tables import STRATEGIES, experiment, go

from ovdecode.errors import ConfigurationError
from ovdecode.experiment import Store, summary
from ovdecode.experiment.export import COLUMNS, export, query


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return go(tmp_path / "store", experiment(strategies=[*STRATEGIES, "speculative"]))


def test_csv_and_json_lines_hold_every_cell(store: Store, tmp_path: Path):
    export(store, tmp_path / "results.csv")
    export(store, tmp_path / "results.jsonl")
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    records = list(store.records())
    assert list(objects[0]) == list(table[0]) == [*COLUMNS, "metric:length", "metric:distinct_n"]
    assert [row["text"] for row in table] == [row["text"] for row in objects] == [one.text for one in records]
    assert json.loads(table[0]["tokens"]) == objects[0]["tokens"] == list(records[0].tokens)
    assert [row["prompt_text"] for row in objects[::15]] == ["a", "b"]
    assert {row["metric:length"] for row in objects} == {4.0}
    assert not list(tmp_path.glob(".*"))


def test_parquet_and_sql(store: Store, tmp_path: Path):
    import duckdb

    export(store, tmp_path / "results.parquet")
    tokens = duckdb.sql(f"SELECT tokens FROM '{tmp_path}/results.parquet'").fetchall()
    assert tokens == [(list(record.tokens),) for record in store.records()]
    found = query(store, 'SELECT strategy, count(*), avg("metric:length") FROM results GROUP BY 1 ORDER BY 1')
    assert found == [(strategy, 6, 4.0) for strategy in sorted([*STRATEGIES, "speculative"])]
    with pytest.raises(ConfigurationError, match="a query must be SQL about the table `results`, but"):
        query(store, "SELECT nothing")


@pytest.mark.parametrize("sql", ["", ";", "-- nothing"])
def test_a_query_of_nothing_is_told(store: Store, sql: str):
    pytest.importorskip("duckdb")
    with pytest.raises(ConfigurationError, match=f"a query must be SQL about the table `results`, got '{sql}'"):
        query(store, sql)


def test_a_link_is_followed_and_stays(store: Store, tmp_path: Path):
    """A file took the link's place, and what it pointed to stayed as it was."""
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "results", tmp_path / "results.jsonl"
    target.touch()
    link.symlink_to(target)
    export(store, link)
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 30
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["results"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes by name")
def test_a_pipe_is_written_to_and_stays(store: Store, tmp_path: Path):
    pipe = tmp_path / "results.csv"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    export(store, pipe)
    reader.join(10)
    assert len(read[0].splitlines()) == 31
    assert pipe.is_fifo()


def test_a_store_is_a_table_in_a_notebook_and_a_data_frame(store: Store, monkeypatch: pytest.MonkeyPatch):
    frame = store.to_pandas()
    assert list(frame.columns) == [*COLUMNS, "metric:length", "metric:distinct_n"]
    assert frame["text"].tolist() == [record.text for record in store.records()]
    assert frame.groupby("strategy")["metric:length"].mean().to_dict() == dict.fromkeys(
        [*STRATEGIES, "speculative"], 4.0
    )
    page = store._repr_html_()
    assert page == summary(store)._repr_html_()
    assert "speculative" in page
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match="a data frame needs `pandas`"):
        store.to_pandas()


def test_what_cannot_be_exported(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigurationError, match=r"to \.csv, \.jsonl, \.parquet, but not to `results\.xlsx`"):
        export(store, tmp_path / "results.xlsx")
    with pytest.raises(ConfigurationError, match="must be a file that can be written"):
        export(store, tmp_path / "no" / "results.csv")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match=r"needs `duckdb`, .*'ovdecode\[query\]'"):
        export(store, tmp_path / "results.parquet")
    assert not list(tmp_path.glob("results*"))
