"""A real Dask scheduler with two worker processes on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import dask
import pytest
import worker_tables
from distributed import Client, LocalCluster
from experiment_tables import experiment, go, table_of
from test_executors import PLUGINS, SLOW, killing_one, lines_of

from ovdecode.errors import ConfigurationError, WorkerError
from ovdecode.experiment import Dask, Store
from ovdecode.experiment.executors import dask as module

Loads = Callable[[], list[list[str]]]


@pytest.fixture(scope="module")
def loads_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each load of a model leaves a line."""
    return tmp_path_factory.mktemp("dask") / "loads"


@pytest.fixture(scope="module")
def cluster(loads_file: Path) -> Iterator[LocalCluster]:
    """A scheduler, and two workers that are started again when they die."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(worker_tables.LOADS, str(loads_file))
        with LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", silence_logs="CRITICAL"
        ) as cluster:
            yield cluster


@pytest.fixture
def loads(cluster: LocalCluster, loads_file: Path) -> Loads:
    """Who loaded the table in this test, and with how many threads, in order."""
    loads_file.write_text("")
    return lambda: [line.split() for line in loads_file.read_text().splitlines()]


def stations(client: Client) -> list[int]:
    """How many runs each worker still knows."""

    def count() -> int:
        from ovdecode.experiment.executors import dask

        return len(dask._stations)

    return list(client.run(count).values())


def test_a_cluster_leaves_what_one_process_leaves(cluster: LocalCluster, loads: Loads, tmp_path: Path):
    plan = experiment(strategies=["greedy", "sampling", "beam:num_beams=2", "best_of_n:n=3"], samples=10)
    store = go(tmp_path / "there", plan, executor=Dask(cluster.scheduler_address, PLUGINS))
    assert table_of(store) == table_of(go(tmp_path / "here", plan))
    assert len(lines_of(store)) == 80
    assert len({pid for pid, _ in loads()}) == len(loads()) == 2
    assert {threads for _, threads in loads()} == {"1"}  # as many as Dask gives each
    with Client(cluster, set_as_default=False) as client:
        assert stations(client) == [0, 0]


def test_a_killed_worker_loses_only_what_it_had_not_finished(cluster: LocalCluster, loads: Loads, tmp_path: Path):
    with Client(cluster, set_as_default=False) as client:
        executor = killing_one(Dask(client, PLUGINS), lambda: [int(pid) for pid, _ in loads()])
        store = go(tmp_path / "there", experiment(**SLOW), executor=executor)
        assert client.status == "running"  # it is not ours to close
    assert table_of(store) == table_of(go(tmp_path / "here", experiment(**SLOW)))
    assert len(lines_of(store)) == 200


def test_a_cell_that_kills_every_worker_is_given_up_alone(cluster: LocalCluster, loads: Loads, tmp_path: Path):
    deaths = tmp_path / "deaths"
    deaths.touch()
    plan = experiment(strategies=["greedy", f'deadly:file="{deaths}",times=100'], prompts=["a"])
    store = go(tmp_path / "store", plan, executor=Dask(cluster, PLUGINS))
    assert [record.error for record in store.records()] == [None] * 4 + [
        "WorkerError: 3 workers were lost over this; the last one left the cluster", None,
    ]  # fmt: skip
    assert len(deaths.read_text()) == 3


def test_closing_it_ends_what_is_under_way(cluster: LocalCluster, loads: Loads, tmp_path: Path):
    plan = experiment(strategies=["unhurried"], samples=1000, max_new_tokens=1000)
    store = Store.create(tmp_path, plan, {"table": worker_tables.table_model()})
    work = [(cell, store.prompts[cell.prompt]) for cell in store.cells]
    with Client(cluster, set_as_default=False) as client:
        with closing(Dask(client, PLUGINS)(plan, work)) as rounds:
            while not loads():
                next(rounds)
        assert sum(stations(client)) == 0


def test_a_method_that_workers_do_not_know_is_told(cluster: LocalCluster, loads: Loads, tmp_path: Path):
    with pytest.raises(WorkerError, match=r"decode this experiment: unknown strategy `untold`.*`--plugin FILE.py`"):
        go(tmp_path, experiment(strategies=["untold"]), executor=Dask(cluster))


def test_a_plugin_file_that_is_not_there_goes_as_text(cluster: LocalCluster, loads: Loads, tmp_path: Path):
    moved = tmp_path / "moved.py"
    moved.write_text((Path(__file__).parent / "experiment_tables.py").read_text())
    executor = Dask(cluster, [PLUGINS[0], moved])
    moved.unlink()
    assert len(go(tmp_path / "store", experiment(strategies=["unhurried"]), executor=executor)) == 6


def test_a_worker_without_ovdecode_is_told(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def decode(described: str, assigned: str) -> str:
        raise ModuleNotFoundError("No module named 'ovdecode'")

    monkeypatch.setattr(module, "decode", decode)
    with pytest.raises(WorkerError, match="it must have this version of ovdecode, but: ModuleNotFoundError"):
        go(tmp_path, executor=Dask(cluster))


def test_a_task_that_dask_gives_up_is_its_cells_error(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def decode(described: str, assigned: str) -> str:
        from types import SimpleNamespace

        from distributed.scheduler import KilledWorker

        raise KilledWorker("a task", SimpleNamespace(address="tcp://there"), 3)

    monkeypatch.setattr(module, "decode", decode)
    plan = experiment(strategies=["greedy"], prompts=["a"], samples=1)
    (record,) = go(tmp_path, plan, executor=Dask(cluster)).records()
    assert record.error is not None
    assert record.error.startswith("KilledWorker: Attempted to run task")


def test_a_scheduler_that_does_not_answer_is_told(tmp_path: Path):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(ConfigurationError, match=r"`scheduler` must be a Dask scheduler that answers.*127.0.0.1:1'"),
    ):
        go(tmp_path, executor=Dask("tcp://127.0.0.1:1"))


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ovdecode\[dask\]'"):
        Dask("tcp://127.0.0.1:8786")
