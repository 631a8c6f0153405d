"""`ovdecode run`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ovdecode as od
from ovdecode.cli.console import console
from ovdecode.cli.progress import Display, duration
from ovdecode.experiment import Store
from ovdecode.experiment.progress import Progress, Row

EXPERIMENT = """
strategies: [greedy, 'sampling:temperature=0.5']
prompts: [a]
samples: 2
max_new_tokens: 3
precision: exact
metrics: [length]
"""
FAILING = """
from dataclasses import dataclass
import ovdecode as od

@od.register("failing_here")
@dataclass(frozen=True)
class Failing(od.Strategy):
    '''Divides by zero after the first answer.'''

    def decode(self, prompt, stop, rng):
        yield prompt
        1 / 0
"""
SLOW = """
import sys, time
from dataclasses import dataclass
import ovdecode as od, ovdecode.loading, ovdecode.experiment.manifest

ovdecode.loading.load = lambda *_, **__: od.Model(od.TableRunner([[0, 9], [9, 0]]))
ovdecode.experiment.manifest.folder_digest = lambda _: "table"

@od.register("endless")
@dataclass(frozen=True)
class Endless(od.Strategy):
    def decode(self, prompt, stop, rng):
        for count in range(ROUNDS):
            yield prompt
            time.sleep(0.001)
            if count == 50:
                print("under way", file=sys.stderr, flush=True)
        return prompt + 1

from ovdecode.cli import main; main()
"""


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with an experiment; the default model is a table."""
    monkeypatch.setattr("ovdecode.experiment.manifest.folder_digest", lambda folder: "table")
    monkeypatch.setattr("ovdecode.models.locate", lambda source: source)
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT)
    return file


def test_it_says_where_results_are_and_what_came_of_them(run, experiment: Path):
    result = run("run", experiment)
    assert result.exit_code == 0, result.stderr
    store = experiment.with_suffix(".store")
    first, last = result.stderr.splitlines()
    assert first == f"note: results go to {store}"
    assert last == f"note: `ovdecode report {store}` compares the methods; with --html FILE it writes a page"
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[:2] == [["Methods"], ["method", "texts", "failed", "length"]]
    assert lines[3] == ["greedy", "2", "0", "3", "[–]"]
    assert lines[4][:3] == ["sampling:temperature=0.5", "2", "0"]
    assert "No interval [–] for length: fewer than 6 prompts." in result.stdout
    assert [record.text for record in Store.open(store).records()][:2] == ["bca", "bca"]


def test_what_came_of_it_are_no_bare_means(run, experiment: Path):
    overrides = ["prompts=[a, b, c, aa, ab, ac, ba]", "metrics=[longest_copy]", "strategies=[sampling, greedy]"]
    result = run("run", experiment, *overrides, "max_new_tokens=8")
    assert result.exit_code == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.strip().startswith(("sampling", "greedy"))]
    means = [re.findall(r"[−\d.]+ \[(?:[−\d.]+, [−\d.]+|–)\]", row) for row in rows]
    assert list(map(len, means)) == [1, 1, 4, 4]  # a metric, then the costs of each
    assert "–" not in means[0][0]
    left = [re.sub(r"[−\d.]+ \[[^\]]*\]", "", row).split() for row in rows]
    assert left == [["sampling", "14", "0"], ["greedy", "14", "0"]] * 2  # all else are counts
    assert "[95 % interval, BCa bootstrap]" in result.stdout


def test_overrides_and_another_store(run, experiment: Path, tmp_path: Path):
    result = run("run", experiment, "samples=1", "prompts=[a, b]", "--store", tmp_path / "elsewhere")
    assert result.exit_code == 0, result.stderr
    assert Store.open(tmp_path / "elsewhere").shape == (1, 2, 2, 1)
    assert not experiment.with_suffix(".store").exists()


def test_a_method_that_fails_is_told_by_the_exit_code(run, experiment: Path, tmp_path: Path):
    plugin = tmp_path / "failing_here.py"
    plugin.write_text(FAILING)
    arguments = ["run", experiment, "strategies=[greedy, failing_here]", "--plugin", plugin]
    result = run(*arguments)
    assert result.exit_code == 1
    assert ["failing_here", "2", "2", "–"] in [line.split() for line in result.stdout.splitlines()]
    before = len(list(Store.open(experiment.with_suffix(".store")).records()))
    assert run(*arguments, "--retry").exit_code == 1
    assert len(list(Store.open(experiment.with_suffix(".store")).records())) == before == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "`none.yaml` must be a YAML file with an experiment, but there is none; check the path"),
        (["none.yaml", "--watch"], "must be a store, but it holds no manifest.json"),
        ([None, "sampels=3"], "unknown key of the experiment `sampels`; did you mean `samples`"),
        ([None, "strategies=[gredy]"], "unknown strategy `gredy`; did you mean `greedy`"),
        ([None, "prompts={file: none.txt}"], "`prompts` must name a file, but"),
        ([None, "max_new_tokens="], "`stop` must be sure to come"),
        (
            [None, "--workers", "2", "--dask", "tcp://h:1"],
            "`--workers` and `--dask` can't both be given; leave one out",
        ),
    ],
)
def test_bad_input_is_one_line(run, experiment: Path, arguments: list[str | None], message: str):
    result = run("run", *(experiment if one is None else one for one in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_damaged_lines_are_told(run, experiment: Path):
    run("run", experiment)
    (shard,) = experiment.with_suffix(".store").glob("results-*.jsonl")
    shard.write_bytes(shard.read_bytes()[:-10])
    result = run("run", experiment)
    assert result.exit_code == 0
    assert "note: 1 lines of the store were torn or changed, and are left out" in result.stderr
    assert len(Store.open(experiment.with_suffix(".store"))) == 4


def slow(experiment: Path, rounds: int) -> list[str]:
    return [
        sys.executable,
        "-c",
        SLOW.replace("ROUNDS", str(rounds)),
        "run",
        str(experiment),
        "strategies=[greedy, endless]",
    ]


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(experiment: Path):
    process = subprocess.Popen(slow(experiment, 10**9), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == f"note: results go to {experiment.with_suffix('.store')}\n"
    assert process.stderr.readline() == "under way\n"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    said = [line for line in stderr.splitlines() if line != "under way"]
    assert said == ["error: interrupted; 2 of 4 cells are finished and kept; the same command goes on"]
    assert ["greedy", "2", "0"] in [line.split()[:3] for line in stdout.splitlines()]
    assert len(Store.open(experiment.with_suffix(".store"))) == 2
    done = subprocess.run(slow(experiment, 1), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Store.open(experiment.with_suffix(".store"))) == 4


TABLE = """
import sys
import ovdecode as od, ovdecode.loading, ovdecode.experiment.manifest

ovdecode.loading.load = lambda *_, **__: od.Model(od.TableRunner([[0, 9], [9, 0]]))
ovdecode.experiment.manifest.folder_digest = lambda _: "table"
"""
ENDLESS = (
    TABLE
    + """
import os, time
from dataclasses import dataclass

@od.register("endless")
@dataclass(frozen=True)
class Endless(od.Strategy):
    def decode(self, prompt, stop, rng):
        for count in range(10**9 if not os.path.exists("done") else 1):
            yield prompt
            time.sleep(0.001)
            if count == 200:
                os.write(2, f"under way in {os.getpid()}\\n".encode())  # one write, so that two never mix
        return prompt + 1
"""
)


def test_ctrl_c_ends_all_workers(experiment: Path):
    """As a terminal does it: to the whole group of processes."""
    (experiment.parent / "endless.py").write_text(ENDLESS)
    command = [sys.executable, "-c", TABLE + "from ovdecode.cli import main; main()", "run", str(experiment)]
    command += ["strategies=[greedy, endless]", "--workers", "2", "--plugin", "endless.py"]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=experiment.parent, start_new_session=True, **options)
    assert process.stderr is not None
    assert process.stderr.readline() == f"note: results go to {experiment.with_suffix('.store')}\n"
    pids = {int(process.stderr.readline().removeprefix("under way in ")) for _ in range(2)}
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)  # ends when no worker has its standard error any more
    assert process.returncode == 130
    assert stderr == "error: interrupted; 2 of 4 cells are finished and kept; the same command goes on\n"
    assert len(pids) == 2
    (experiment.parent / "done").touch()
    done = subprocess.run(command, cwd=experiment.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Store.open(experiment.with_suffix(".store"))) == 4


def test_the_cluster_is_that_of_the_address(run, experiment: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ovdecode.experiment.executors.dask.find_spec", lambda name: None)
    result = run("run", experiment, "--dask", "tcp://127.0.0.1:8786")
    assert result.exit_code == 2
    assert "pip install 'ovdecode[dask]'" in result.stderr
    seen: list[Any] = []
    monkeypatch.setattr("ovdecode.experiment.Dask", lambda *arguments: seen.append(arguments))
    assert run("run", experiment, "--dask", "tcp://127.0.0.1:8786").exit_code == 0
    assert seen == [("tcp://127.0.0.1:8786", [])]


def test_watch_shows_a_run_of_another_process(run, experiment: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[Progress] = []
    monkeypatch.setattr("ovdecode.cli.progress.Display.show", lambda self, progress: shown.append(progress))
    process = subprocess.Popen(slow(experiment, 1500), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    assert process.stderr.readline() == "under way\n"
    result = run("run", experiment, "--watch")
    process.communicate(timeout=60)
    assert result.exit_code == 0
    assert shown[0].state == "decoding"
    assert {row.strategy for row in shown[0].rows} == {"greedy", "endless"}
    assert "nobody is at work on" in result.stderr
    assert "4 of 4 cells are finished" in result.stderr


def test_the_display_is_quiet_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]):
    progress = Progress("decoding", (Row("m", "greedy", 1, 0, 2),))
    with Display(console(stderr=True)) as display:
        display.show(progress)
    assert capsys.readouterr() == ("", "")


def test_the_display_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    rows = (Row("m", "greedy", 1, 1, 2), Row("m", "beam\x1b[31m", 0, 0, 2))
    with Display(console()) as display:
        display.show(Progress("decoding", rows, 12.3, 75.0, (("greedy", 0, 1),)))
    shown = capsys.readouterr().out
    assert "1/2" in shown
    assert "1 failed" in shown
    assert "decoding · 1/4 cells · 1 running · 12 tokens/s · 1:15 left" in shown
    assert "␛" in shown


def test_duration():
    assert duration(0.4) == "0:00"
    assert duration(3600) == "1:00:00"


def test_the_default_model(tmp_path: Path, model: od.Model, monkeypatch: pytest.MonkeyPatch):
    from typer.testing import CliRunner

    from ovdecode.cli import app

    monkeypatch.setattr("ovdecode.loading.load", lambda source, **options: model)
    (tmp_path / "prompts.jsonl").write_text('{"question": "Once upon a time"}\n{"question": "The sea is"}\n')
    file = tmp_path / "real.yaml"
    file.write_text("strategies: [greedy, beam]\nprompts: prompts.jsonl\nmax_new_tokens: 4\nmetrics: [perplexity]")
    result = CliRunner().invoke(app, ["run", str(file)])
    assert result.exit_code == 0, result.stderr
    store = Store.open(tmp_path / "real.store")
    assert json.loads(json.dumps(store.values("perplexity").min())) > 1.0
    expected = model.generate("The sea is", max_new_tokens=4)
    assert [one.text for one in store.records() if one.prompt == 1 and one.strategy == "greedy"] == [expected.text]
