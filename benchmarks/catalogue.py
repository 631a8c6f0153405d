"""What does a method's Python cost? Every registered strategy, and every processor inside sampling, at 32 rows.

    python benchmarks/catalogue.py [--quick] [--threads 2] [--only beam mirostat ...] [--json results.json]

A step's Python is all of its time in which no inference is under way; of it, the method's own is what passes inside the
strategy and its processors, from the logits to the next request, and the rest is the engine's and the pages'. The first
step, which reads the prompts, is left out. All Python is measured twice: in place, and once more with the outputs of
that run recorded and replayed without any inference, so that every decision is the same but the processor's caches stay
warm. So many prompts run at once that an inference has about 32 rows; all times but a step's are microseconds a row.
Lines with a `+` are processors inside sampling. Marked are methods whose own Python is above a fifth of their steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from common import Table, arguments
from methods import NO_SPEC, PROMPTS, specs

import ovdecode as od
from ovdecode.runners.graph import WANTED_ROWS
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.runners.tensors import Outputs

ROWS, ASKED = 32, 20.0


@dataclass
class Clock:
    """The time in which something is under way: an inference in any graph, or a method.

    Attributes:
        seconds: its sum.
        inferences, rows: how many of these there were.
        outputs: what each returned, in the order of their starts, if they are recorded.
    """

    seconds: float = 0.0
    inferences: int = 0
    rows: int = 0
    outputs: list[Any] | None = None
    _running: int = 0
    _began: float = 0.0

    def begin(self) -> None:
        if self._running == 0:
            self._began = time.perf_counter()
        self._running += 1

    def end(self) -> None:
        self._running -= 1
        if self._running == 0:
            self.seconds += time.perf_counter() - self._began

    def reset(self) -> None:
        """Forget what was counted, but not what was recorded."""
        self.seconds, self.inferences, self.rows = 0.0, 0, 0


@contextmanager
def clocked(record: bool) -> Iterator[Clock]:
    """Every inference of every graph is timed, and its outputs are kept if they are to be replayed."""
    clock = Clock(outputs=[] if record else None)
    start, read_out = PagedGraph.start, PagedGraph.read_out

    def timed_start(graph: PagedGraph, feed: Mapping[str, Any]) -> Callable[[], Outputs]:
        clock.begin()
        clock.inferences += 1
        clock.rows += len(feed[WANTED_ROWS])
        wait = start(graph, feed)

        def timed_wait() -> Outputs:
            outputs = wait()
            clock.end()
            if clock.outputs is not None:
                clock.outputs.append(outputs)
            return outputs

        return timed_wait

    def timed_read_out(graph: PagedGraph, hidden: Any) -> Any:
        clock.begin()
        logits = read_out(graph, hidden)
        clock.end()
        if clock.outputs is not None:
            clock.outputs.append(logits)
        return logits

    with patch.object(PagedGraph, "start", timed_start), patch.object(PagedGraph, "read_out", timed_read_out):
        yield clock


@contextmanager
def timed(kind: type[od.Strategy]) -> Iterator[Clock]:
    """The time inside decodings of one kind of strategy, and inside all that run in them."""
    clock, decode = Clock(), kind.decode

    class Timed:
        """As much of a generator as the engine uses."""

        def __init__(self, *given: Any) -> None:
            self._decoding = decode(*given)

        def send(self, answer: Any) -> Any:
            clock.begin()
            try:
                return self._decoding.send(answer)
            finally:
                clock.end()

        def close(self) -> None:
            self._decoding.close()

    with patch.object(kind, "decode", lambda *given: Timed(*given)):  # a class would not be given the strategy
        yield clock


@contextmanager
def replayed(outputs: list[Any]) -> Iterator[None]:
    """No inference runs: what was recorded is returned, in the same order."""
    left = iter(outputs)
    with (
        patch.object(PagedGraph, "start", lambda graph, feed: lambda: next(left)),
        patch.object(PagedGraph, "read_out", lambda graph, hidden: next(left)),
    ):
        yield


def steps(tasks: list[od.Task], *clocks: Clock) -> tuple[float, int]:
    """Run tasks: the seconds and the number of all steps after the first, of which alone the clocks then tell.

    Raises:
        Exception: what went wrong in a task.
    """
    begin, count = time.perf_counter(), 0
    for count, events in enumerate(od.Engine(max_live=len(tasks), max_tokens=8_192).rounds(tasks)):
        if count == 0:
            for clock in clocks:
                clock.reset()
            begin = time.perf_counter()
        for event in events:
            if isinstance(event, od.Generation) and event.error is not None:
                raise event.error
    return time.perf_counter() - begin, count


def tasks_for(model: od.Model, spec: str, count: int, new: int) -> list[od.Task]:
    """Tasks of one method, on prompts of one length that all differ."""
    prompts = [model.encode(PROMPTS[number % len(PROMPTS)])[:12] for number in range(count)]
    return [
        od.Task(model, [200 + number, *prompt], spec, max_new_tokens=new, ignore_eos=True, seed=number)
        for number, prompt in enumerate(prompts)
    ]


def main() -> None:
    options = arguments(__doc__, only={"nargs": "+", "metavar": "NAME", "help": "some plugins only"})
    model = od.load("smollm2", threads=options.threads)
    new, rounds = (6, 1) if options.quick else (16, 2)
    cases = [(name, spec, spec) for name, examples in specs("strategy").items() for spec in examples]
    cases.sort(key=lambda case: case[0] != "greedy")
    for name, examples in specs("processor").items():
        cases += [
            (name, f"sampling:processors=({spec})", f"  + {spec if spec != examples[0] else name}") for spec in examples
        ]
    table = Table(
        f"Python of a step, at about {ROWS} rows",
        ["method", "rows", "step ms", "us / row", "its own", "warm", "Python %", "its own %", ""],
    )
    for name, spec, shown in cases:
        if options.only and name not in options.only:
            continue
        with clocked(record=False) as clock:
            steps(tasks_for(model, spec, 1, new), clock)  # how many rows one prompt has; warms up, too
        count = max(1, round(ROWS * clock.inferences / clock.rows))
        measured = []
        for _ in range(rounds):
            tasks = tasks_for(model, spec, count, new)
            with clocked(record=True) as clock, timed(type(tasks[0].method)) as own:
                seconds, number = steps(tasks, clock, own)
            with replayed(clock.outputs or []):
                warm, _ = steps(tasks_for(model, spec, count, new))
            python = seconds - clock.seconds
            each = [1e6 * spent / clock.rows for spent in (python, own.seconds, warm)]
            measured.append((1e3 * seconds / number, *each, 100 * python / seconds, 100 * own.seconds / seconds))
        figures = np.median(measured, axis=0)
        rows = clock.rows / clock.inferences
        table.add(shown[:36], rows, *figures, f"> {ASKED:g}" if figures[-1] > ASKED else "")
    for name, reason in NO_SPEC.items():
        print(f"`{name}` is left out: it {reason}")
    table.finish(options, model)


if __name__ == "__main__":
    main()
