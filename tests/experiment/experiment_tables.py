"""A tiny experiment on a table, whose whole store is known in milliseconds; and runs of it that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ovdecode as od
from ovdecode.experiment import Experiment, Record, Store, run
from ovdecode.experiment import journal as journal_module

TIMES = ("seconds", "time_to_first_token")
STRATEGIES = ["greedy", "sampling:temperature=0.7", "sampling", "beam:num_beams=2"]


def table_model() -> od.Model:
    """Three tokens, a, b and c, of which each may follow each."""
    return od.Model(od.TableRunner([[0.0, 1.0, 0.5], [0.2, 0.0, 1.0], [1.0, 0.3, 0.0]]), name="table")


def experiment(**changes: Any) -> Experiment:
    """The tiny experiment: 24 cells."""
    values = {
        "strategies": STRATEGIES,
        "prompts": ["a", "b"],
        "models": ["table"],
        "samples": 3,
        "max_new_tokens": 4,
        "precision": "exact",
        "metrics": ["length", "distinct_n", "self_bleu"],
    }
    return Experiment.of({**values, **changes})


def go(folder: Path, plan: Experiment | None = None, **options: Any) -> Store:
    """Run it on the table."""
    return run(plan or experiment(), folder, models={"table": table_model()}, **options)


def timeless(record: Record) -> dict[str, Any]:
    """A record without what the clock decides."""
    return {name: value for name, value in record.to_json().items() if name not in TIMES}


def table_of(store: Store) -> list[Any]:
    """All that a store tells, but for the clock."""
    records = [timeless(record) for record in store.records()]
    values = [store.values(metric).tolist() for metric in ("length", "distinct_n")]
    return [records, values, store.set_values("self_bleu").tolist()]


@od.register("unhurried")
@dataclass(frozen=True)
class Unhurried(od.Strategy):
    """Greedy decoding that takes its time, so that a run can be met half-way."""

    def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            time.sleep(0.001)
            sequence += logits.argmax()
        return sequence


def run_and_die(folder: Path, writes: int, share: float) -> None:
    """Run it, and die with SIGKILL in the midst of a write: after some whole lines, with a share of the next."""
    count = 0

    def write(file: int, data: Any) -> int:
        nonlocal count
        count += 1
        if count > writes:
            real(file, data[: int(len(data) * share)])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(file, data)

    real = os.write
    journal_module.os.write = write
    go(folder)


def killed_runs(folder: Path, times: int) -> list[int]:
    """Start it again and again, and kill it: half the times in the midst of a write, half at any instant.

    Returns how many cells were finished after each."""
    rng = random.Random(0)
    finished = []
    for turn in range(times):
        writes, share, delay = rng.randrange(4), rng.random(), rng.uniform(0.0, 0.1)
        child = os.fork()
        if child == 0:
            if turn % 2:
                run_and_die(folder, writes, share)
            go(folder)
            os._exit(0)
        if turn % 2 == 0:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finished.append(len(Store.open(folder)) if (folder / "manifest.json").exists() else 0)
    return finished


def killed_while_measuring(folder: Path, times: int) -> list[int]:
    """Decode everything, then start to measure again and again, each time to die in the second write.

    Returns how many lines had been measured after each."""
    go(folder, experiment(metrics=[]))
    lines = []
    for turn in range(times):
        child = os.fork()
        if child == 0:
            run_and_die(folder, 1, turn / times)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        lines.append(sum(file.read_bytes().count(b"\n") for file in folder.glob("metrics-*.jsonl")))
    return lines


def two_at_once(folder: Path) -> list[int]:
    """Two processes on one experiment: their exit codes."""
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            go(folder, experiment(strategies=["unhurried"], samples=200))
            os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


if __name__ == "__main__":  # in a process of its own, which has no threads, so that it may fork
    what, where, *numbers = sys.argv[1:]
    print(json.dumps(globals()[what](Path(where), *map(int, numbers))))
