"""A worker batches what many threads send, and can be left at any moment."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import numpy as np
import pytest

import ovdecode as od
from ovdecode.clients.worker import Worker
from ovdecode.engine import Engine, Task
from ovdecode.forward import Forward
from ovdecode.runners.base import Pending


class Held(od.TableRunner):
    """A table that lets one inference through for each `let`, and says when one begins."""

    def __init__(self, size: int = 3) -> None:
        super().__init__(np.eye(size)[[*range(1, size), 0]])
        self.sizes: list[int] = []
        self.begun, self.gate = threading.Semaphore(0), threading.Semaphore(0)

    def submit(self, requests: list[Forward]) -> Pending:
        self.sizes.append(len(requests))
        self.begun.release()
        self.gate.acquire()
        return super().submit(requests)

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self.gate.release()


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.close()


def task(runner: od.TableRunner, first: int = 0, count: int = 3, **options) -> Task:
    return Task(od.Model(runner), [first], max_new_tokens=count, **options)


def test_what_comes_while_one_runs_joins_its_batch(worker) -> None:
    runner = Held()
    model = od.Model(runner)
    first = worker.submit(Task(model, [0], max_new_tokens=3))
    runner.begun.acquire()
    others = [worker.submit(Task(model, [token], max_new_tokens=2)) for token in (1, 2)]
    runner.let(3)
    assert first.result().tokens == (1, 2, 0)
    assert [future.result().tokens for future in others] == [(2, 0), (0, 1)]
    assert runner.sizes == [1, 3, 3]


def test_results_are_those_of_a_run(worker, model) -> None:
    specs = ["greedy", "beam:num_beams=2", "sampling:temperature=0.8"]
    tasks = [Task(model, prompt, spec, 6) for spec in specs for prompt in ("Once upon", "The capital of France is")]
    found = [future.result() for future in [worker.submit(each) for each in tasks]]
    for generation in od.run(tasks):  # not before: a model is for one thread at a time
        assert found[generation.index].text == generation.text
        assert found[generation.index].logprob == generation.logprob


def test_a_cancelled_task_ends_and_leaves_the_others(worker) -> None:
    runner = Held()
    model = od.Model(runner)
    gone, stays = (worker.submit(Task(model, [token], max_new_tokens=4)) for token in (0, 1))
    runner.begun.acquire()
    first = runner.sizes[0]
    assert gone.cancel()
    runner.let(4 + first)
    assert stays.result().tokens == (2, 0, 1, 2)
    assert runner.sizes[-1] == 1  # nothing is computed for it any more
    with pytest.raises(CancelledError):
        gone.result()


def test_a_task_that_fails_is_a_generation_with_an_error(worker) -> None:
    generation = worker.submit(Task(od.Model(od.TableRunner(np.eye(2))), [])).result()
    assert "at least one token" in str(generation.error)


def test_an_engine_that_breaks_keeps_nobody_waiting_and_goes_on(worker, monkeypatch) -> None:
    def broken(self: Engine, **options: object) -> list[object]:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", broken)
        with pytest.raises(MemoryError, match="no room"):
            worker.submit(task(od.TableRunner(np.eye(2)))).result()
    assert worker.submit(task(od.TableRunner(np.eye(2)))).result().tokens == (0, 0, 0)


def test_closing_cancels_what_runs_and_refuses_what_comes() -> None:
    worker, runner = Worker(), Held()
    futures: list[Future[od.Generation]] = [worker.submit(task(runner, count=100)) for _ in range(2)]
    runner.begun.acquire()
    runner.let(3)
    worker.close()
    assert all(future.cancelled() for future in futures)
    with pytest.raises(RuntimeError, match="after `close`"):
        worker.submit(task(runner))
    worker.close()  # a second time does nothing


def test_its_thread_ends_when_nobody_holds_it() -> None:
    def workers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "ovdecode"}

    before = workers()
    worker = Worker()
    assert worker.submit(task(od.TableRunner(np.eye(2)))).result().tokens == (0, 0, 0)
    (thread,) = workers() - before
    del worker
    gc.collect()
    assert not thread.is_alive()


def test_a_program_ends_while_a_task_runs() -> None:
    code = """
import numpy as np
import ovdecode as od
from ovdecode.clients.worker import Worker
runner, worker = od.TableRunner(np.eye(2)), Worker()
future = worker.submit(od.Task(od.Model(runner), [0], max_new_tokens=10**9))
worker.submit(od.Task(od.Model(runner), [0], max_new_tokens=1)).result()  # the other one has begun by now
assert not future.done()
print("left")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert (run.stdout, run.stderr) == ("left\n", "")


def test_what_is_no_task_is_refused_and_the_others_are_decoded(worker) -> None:
    """It ended the thread, and whoever came later waited for ever."""
    with pytest.raises(od.errors.ConfigurationError, match=r"`task` must be a Task.*'no task'"):
        worker.submit("no task")
    assert worker.submit(task(od.TableRunner(np.eye(2)))).result(60).tokens == (0, 0, 0)


def test_a_thread_that_is_ended_answers_everybody_and_refuses_what_comes(worker) -> None:
    @dataclass(frozen=True)
    class Exiting(od.Strategy):
        def decode(self, prompt, stop, rng):
            yield prompt
            raise SystemExit(3)

    runner = Held()
    model = od.Model(runner)
    futures = [worker.submit(Task(model, [0], strategy)) for strategy in (Exiting(), "greedy")]
    runner.begun.acquire()
    futures.append(worker.submit(Task(model, [0])))
    runner.let(9)
    for future in futures:
        with pytest.raises(od.errors.WorkerError, match=r"it was: SystemExit: 3 \(test_worker.py:"):
            future.result(60)
    with pytest.raises(od.errors.WorkerError, match="Make a new worker"):
        worker.submit(Task(model, [0]))
