"""Executors of other processes: the same results, whatever dies, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import worker_tables
from experiment_tables import experiment, go, table_of, timeless

import ovdecode as od
from ovdecode.errors import ConfigurationError, WorkerError
from ovdecode.experiment import Experiment, LocalProcesses, Record, Store, run
from ovdecode.experiment.executors import Executor, Work
from ovdecode.models import ModelFolder

HERE = Path(__file__).parent
PLUGINS = [HERE / "worker_tables.py", HERE / "experiment_tables.py"]
SLOW = {"strategies": ["unhurried"], "samples": 100}


@od.register("untold")
@dataclass(frozen=True)
class Untold(od.Strategy):
    """Known here and to no worker."""

    def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
        yield prompt


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """Who loaded the table, and with how many threads, in order."""
    file = tmp_path / "loads"
    file.touch()
    monkeypatch.setenv(worker_tables.LOADS, str(file))
    return lambda: [line.split() for line in file.read_text().splitlines()]


def processes(count: int = 2, **options: Any) -> LocalProcesses:
    return LocalProcesses(count, PLUGINS, **options)


def lines_of(store: Store) -> list[str]:
    return [line for file in store.folder.glob("results-*.jsonl") for line in file.read_text().splitlines()]


def are_gone(pids: Iterable[int], seconds: float = 30.0) -> bool:
    """Whether processes end within a time. A zombie has ended."""
    end = time.monotonic() + seconds
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_processes_leave_what_one_process_leaves(tmp_path: Path, loads: Callable[[], list[list[str]]]):
    plan = experiment(strategies=["greedy", "sampling", "beam:num_beams=2", "best_of_n:n=3"], samples=20)
    store = go(tmp_path / "there", plan, executor=processes(threads=3))
    assert table_of(store) == table_of(go(tmp_path / "here", plan))
    assert len(lines_of(store)) == 160
    assert len({pid for pid, _ in loads()}) == len(loads()) == 2  # the cells are dealt out evenly
    assert {threads for _, threads in loads()} == {"3"}
    assert are_gone(int(pid) for pid, _ in loads())


def killing_one(inner: Executor, pids: Callable[[], list[int]]) -> Executor:
    """An executor that kills one of its workers when the first results are there."""

    def kill(experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        killed = False
        with closing(inner(experiment, work)) as rounds:
            for records in rounds:
                if records and not killed:
                    os.kill(pids()[0], signal.SIGKILL)
                    killed = True
                yield records

    return kill


def test_a_killed_process_loses_only_what_it_had_not_finished(tmp_path: Path, loads: Callable[[], list[list[str]]]):
    executor = killing_one(processes(), lambda: [int(pid) for pid, _ in loads()])
    store = go(tmp_path / "there", experiment(**SLOW), executor=executor)
    assert table_of(store) == table_of(go(tmp_path / "here", experiment(**SLOW)))
    assert len(lines_of(store)) == 200
    assert len(loads()) == 3  # another one took its place
    assert are_gone(int(pid) for pid, _ in loads())


def test_a_cell_that_kills_every_worker_is_given_up_alone(tmp_path: Path, loads: Callable[[], list[list[str]]]):
    deaths = tmp_path / "deaths"
    deaths.touch()
    plan = experiment(strategies=["greedy", f'deadly:file="{deaths}",times=100'], prompts=["a"])
    store = go(tmp_path / "store", plan, executor=processes(1))
    assert [record.error for record in store.records()] == [None] * 4 + [
        "WorkerError: 3 workers were lost over this; the last one was ended by SIGKILL", None,
    ]  # fmt: skip
    assert len(deaths.read_text()) == 3


def test_what_a_method_prints_is_no_result(tmp_path: Path, loads: Any, capfd: pytest.CaptureFixture[str]):
    store = go(tmp_path / "store", experiment(strategies=["loud"], prompts=["a"]), executor=processes(1))
    assert len(store) == 3
    assert capfd.readouterr().err.count("by a method that prints") == 3


def test_closing_it_ends_its_processes_at_once(tmp_path: Path, loads: Callable[[], list[list[str]]]):
    pids = tmp_path / "pids"
    plan = experiment(strategies=["greedy", f'stuck:file="{pids}"'])
    store = Store.create(tmp_path / "store", plan, {"table": worker_tables.table_model()})
    work = [(cell, store.prompts[cell.prompt]) for cell in store.cells]
    with closing(processes()(plan, work)) as rounds:
        for _ in rounds:
            if pids.exists() and len(pids.read_text().split()) == 2:
                break
    assert are_gone(map(int, pids.read_text().split()))


def test_processes_end_with_the_one_that_started_them(tmp_path: Path, loads: Callable[[], list[list[str]]]):
    pids = tmp_path / "pids"
    code = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import worker_tables
from pathlib import Path
from experiment_tables import experiment, go
from test_executors import processes
go(Path({str(tmp_path / "store")!r}), experiment(strategies=['stuck:file="{pids}"']), executor=processes())
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    while not pids.exists() or len(pids.read_text().split()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert are_gone(map(int, pids.read_text().split()))


def test_a_method_that_processes_do_not_know_is_told(tmp_path: Path, loads: Any):
    with pytest.raises(WorkerError, match=r"decode this experiment: unknown strategy `untold`.*`--plugin FILE.py`"):
        go(tmp_path / "store", experiment(strategies=["untold"]), executor=LocalProcesses(1))


def test_another_source_of_a_method_is_told(tmp_path: Path, loads: Any):
    other = tmp_path / "experiment_tables.py"
    other.write_text((HERE / "experiment_tables.py").read_text() + "# edited since\n")
    with pytest.raises(WorkerError, match="`table` and `unhurried` must be the same here and where the run was"):
        go(tmp_path / "store", experiment(**SLOW), executor=LocalProcesses(1, [PLUGINS[0], other]))


def test_what_makes_no_sense_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="`count` must be a whole number of at least 1, got 0"):
        LocalProcesses(0)
    with pytest.raises(ConfigurationError, match="`threads` must be a whole number of at least 1, got 0"):
        LocalProcesses(1, threads=0)
    with pytest.raises(ConfigurationError, match=r"must name a Python file, but `.*none.py` is none"):
        LocalProcesses(1, [tmp_path / "none.py"])


def test_a_worker_that_cannot_load_the_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(worker_tables.LOADS, str(tmp_path / "no" / "folder"))
    with pytest.raises(WorkerError, match=r"can't decode this experiment: FileNotFoundError: .*worker_tables.py:"):
        go(tmp_path / "store", executor=processes(1))


def test_the_default_model(model: od.Model, smollm2_folder: ModelFolder, tmp_path: Path):
    plan = Experiment.of(
        {
            "strategies": ["greedy", "sampling:top_p=0.9", "beam:num_beams=2"],
            "prompts": ["Once upon a time", "The sea is"],
            "max_new_tokens": 6,
        }
    )
    there = run(plan, tmp_path / "there", executor=LocalProcesses(2))
    here = run(plan, tmp_path / "here", models={"smollm2": model})
    assert not there.failed.any()
    assert [timeless(one) for one in there.records()] == [timeless(one) for one in here.records()]  # to the bit
