"""`ovdecode report`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import ovdecode as od
from ovdecode.cli import app
from ovdecode.experiment import Experiment, Store
from ovdecode.experiment import run as run_experiment


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on eight prompts."""
    folder = tmp_path_factory.mktemp("report") / "store"
    model = od.Model(od.TableRunner([[0, 2, 1], [1, 0, 2], [2, 1, 0]]), name="table")
    prompts = ["a", "b", "c", "ab", "bc", "ca", "aa", "bb"]
    plan = Experiment(
        ["greedy", "sampling"],
        prompts,
        ["table"],
        max_new_tokens=6,
        metrics=["distinct_n", "length"],
        precision="exact",
    )
    run_experiment(plan, folder, models={"table": model})
    return folder


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_the_table_is_printed(store):
    result = report(store)
    assert result.exit_code == 0, result.stderr
    assert "distinct_n ↑" in result.stdout
    assert "distinct_n ↑: difference to greedy" in result.stdout  # the first method, if none is named
    assert "time_to_first_token (s) ↓" in result.stdout
    assert result.stderr == ""


def test_baseline_metric_and_wins(store):
    result = report(store, "--baseline", "sampling", "--metric", "distinct_n")
    assert "distinct_n ↑: difference to sampling" in result.stdout
    assert "distinct_n: on how many prompts the method of the line is better" in result.stdout
    assert "length: difference" not in result.stdout


def test_markdown_latex_csv_and_figures(store, tmp_path):
    result = report(
        store, "--markdown", "--latex", tmp_path / "t.tex", "--csv", tmp_path / "t.csv",
        "--figures", tmp_path / "figures", "--suffix", ".svg",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("**Methods**\n\n| method | texts | failed | distinct\\_n ↑ | length |\n")
    assert r"\toprule" in (tmp_path / "t.tex").read_text(encoding="utf-8")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert {row["strategy"] for row in csv.DictReader(file)} == {"greedy", "sampling"}
    names = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert names == ["distinct_n-length.svg", "distinct_n.svg", "length.svg"]


def test_nothing_is_written_to_the_store(store):
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    report(store)
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


def test_what_is_missing_is_said(store, tmp_path):
    more = Experiment.of({**Store.open(store).experiment.plain(), "samples": 2})
    for file in store.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    model = od.Model(od.TableRunner([[0, 2, 1], [1, 0, 2], [2, 1, 0]]), name="table")
    Store.create(tmp_path, more, {"table": model}).close()
    result = report(tmp_path)
    assert result.exit_code == 0
    assert "16 of 32 texts are finished" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "gredy"], "did you mean `greedy`"),
        (["--metric", "distinct"], "unknown metric of these results: `distinct`"),
        (["--latex", "/nowhere/t.tex"], "`--latex` must name a file that can be written"),
        (["--level", "2"], "`level` must be above 0 and below 1"),
        (["--figures", "f", "--suffix", ".gif"], "`suffix` must be one of .pdf, .svg, .png"),
    ],
)
def test_bad_input(store, arguments, message):
    result = report(store, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_no_store(tmp_path):
    result = report(tmp_path)
    assert result.exit_code == 2
    assert "must be a store" in result.stderr


def test_a_file_is_no_store(tmp_path):
    file = tmp_path / "openings.yaml"
    file.write_text("prompts: [a]")
    result = report(file)
    assert result.exit_code == 2
    assert f"`{file}` must be the folder of a store, but it is a file" in result.stderr
