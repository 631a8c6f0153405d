"""`ovdecode export` and `ovdecode query`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import ovdecode as od
from ovdecode.cli import app
from ovdecode.cli.export import query
from ovdecode.experiment import Experiment
from ovdecode.experiment import run as run_experiment


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on two prompts."""
    folder = tmp_path_factory.mktemp("export") / "store"
    plan = Experiment(["greedy", "beam"], ["a", "b"], ["table"], max_new_tokens=3, precision="exact")
    run_experiment(plan, folder, models={"table": od.Model(od.TableRunner([[0, 2], [2, 0]]), name="table")})
    return folder


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_results_are_exported(store: Path, tmp_path: Path):
    result = command("export", store, tmp_path / "r.jsonl")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"note: 4 results are in {tmp_path / 'r.jsonl'}\n"
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(row["strategy"], row["text"]) for row in rows] == [
        ("greedy", "bab"), ("beam", "bab"), ("greedy", "aba"), ("beam", "aba"),
    ]  # fmt: skip


def test_a_query_is_answered_as_a_table_and_as_csv(store: Path):
    sql = "SELECT strategy, max(length) AS longest, max(error) AS wrong FROM results GROUP BY 1 ORDER BY 1"
    shown = command("query", store, sql)
    assert shown.exit_code == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines() if line.strip()]
    assert [lines[0], *lines[2:]] == [["strategy", "longest", "wrong"], ["beam", "3", "–"], ["greedy", "3", "–"]]
    table = list(csv.reader(io.StringIO(command("query", store, sql, "--csv").stdout)))
    assert table == [["strategy", "longest", "wrong"], ["beam", "3", ""], ["greedy", "3", ""]]


def test_one_result_is_one(tmp_path: Path):
    plan = Experiment(["greedy"], ["a"], ["table"], max_new_tokens=1, precision="exact")
    run_experiment(plan, tmp_path / "one", models={"table": od.Model(od.TableRunner([[0]]), name="table")})
    assert command("export", tmp_path / "one", tmp_path / "r.csv").stderr.startswith("note: 1 result is in ")


@pytest.mark.parametrize(("terminal", "shown"), [(True, "␛[31m"), (False, "\x1b[31m")])
def test_csv_does_not_steer_a_terminal(
    store: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: str
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdout", written)
    query(store, "SELECT chr(27) || '[31m' AS text, 1 AS one FROM results LIMIT 1", csv=True)
    assert written.getvalue() == f"text,one\n{shown},1\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", None, "r.xlsx"], "can be exported to .csv, .jsonl, .parquet, but not to `r.xlsx`"),
        (["export", "nowhere", "r.csv"], "`nowhere` must be a store, but it holds no manifest.json"),
        (["query", None, "SELECT nothing"], "a query must be SQL about the table `results`, but"),
    ],
)
def test_bad_input_is_one_line(store: Path, arguments: list[str | None], message: str):
    result = command(*(store if one is None else one for one in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
