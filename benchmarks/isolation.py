"""Is a result the same in any company? Bit for bit, over random schedules, in `invariant` and in `exact`.

    python benchmarks/isolation.py [--quick] [--schedules 1000] [--seed 0] [--threads 2] [--json results.json]
    python benchmarks/isolation.py --crowd 50

A schedule is a random set of tasks (any method of the catalogue on a real prompt) in random order, run together with a
random number of live tasks and a random bound on the tokens of an inference; in half of them the cache is so small that
sequences are evicted and computed anew. Each task's tokens, text, log-probabilities, scores, alternatives and counted
cost must be those of the same task alone, bit for bit. The schedules are shared out between the two precisions.
With `--crowd` there are two schedules for each precision instead: every strategy on each of so many prompts, in two
random orders, 33 of them live at any time.

Ends with status 1 if anything differs, and says what.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

from common import Table, arguments
from methods import real_prompts, specs

import ovdecode as od
from ovdecode.runners.base import Precision
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.runners.pages import PageCache
from ovdecode.testing.cases import difference, facts

PRECISIONS: tuple[Precision, ...] = ("invariant", "exact")
PROMPTS, LONGEST = 24, 100
CROWD, CROWD_NEW = 33, 8
"""Tasks that are live at once in a crowd, and new tokens of each."""
SMALL_CACHE = 10
"""Pages of the small cache: room for two or three of the longer sequences; loading tests the precision on as many."""


@dataclass(frozen=True)
class Case:
    """A task by what it is made of, so that it can be made for any model."""

    prompt: tuple[int, ...]
    spec: str
    new: int
    seed: int

    def task(self, model: od.Model) -> od.Task:
        return od.Task(model, self.prompt, self.spec, max_new_tokens=self.new, seed=self.seed)


def cases(model: od.Model, chance: random.Random) -> list[Case]:
    """One for every strategy and every processor, on some prompts each."""
    methods = [spec for examples in specs("strategy").values() for spec in examples]
    methods += [f"sampling:processors=({spec})" for examples in specs("processor").values() for spec in examples]
    texts = chance.sample(real_prompts(), min(PROMPTS, len(real_prompts())))
    prompts = [tuple(model.encode(text)[: chance.randint(3, LONGEST)]) for text in texts]
    return [
        Case(chance.choice(prompts), spec, chance.randint(2, 6), chance.randint(0, 99))
        for spec in methods
        for _ in range(2)
    ]


def crowd(model: od.Model, count: int) -> list[Case]:
    """Every strategy on each of so many prompts."""
    prompts = [tuple(model.encode(text)[:LONGEST]) for text in real_prompts()[:count]]
    methods = [spec for examples in specs("strategy").values() for spec in examples]
    return [Case(prompt, spec, CROWD_NEW, seed) for seed, prompt in enumerate(prompts) for spec in methods]


@dataclass(frozen=True)
class Schedule:
    """What runs together, and how.

    Attributes:
        cases: in the order in which they are submitted.
        small: whether the cache is too small for them.
        max_live, max_tokens: bounds of the engine.
    """

    cases: list[Case] = field(repr=False)
    small: bool
    max_live: int
    max_tokens: int

    @classmethod
    def at_random(cls, pool: list[Case], small: bool, chance: random.Random) -> Schedule:
        """A few of a pool."""
        few = 4 if small else 2
        cases = chance.sample(pool, chance.randint(few, 6))
        max_live = chance.randint(4 if small else 1, 6)  # few at a time would fit, and evict nobody
        return cls(cases, small, max_live, chance.choice([8, 32, 128, 512]))

    @classmethod
    def of_crowd(cls, pool: list[Case], chance: random.Random) -> Schedule:
        """All of a pool in random order."""
        return cls(chance.sample(pool, len(pool)), False, CROWD, 512)


class Company:
    """One precision: what every case gives alone, and what it gives in company."""

    def __init__(self, precision: Precision, threads: int) -> None:
        load = partial(od.load, "smollm2", precision=precision, threads=threads)
        self.ample = load()
        assert isinstance(self.ample.runner, PagedRunner)
        page_bytes = self.ample.runner._lanes[False].graph.memory.page_bytes
        self.small = load(cache_bytes=SMALL_CACHE * page_bytes)
        self.alone: dict[Case, dict[str, str]] = {}

    def expected(self, case: Case) -> dict[str, str]:
        """What it gives alone, asked for once."""
        if case not in self.alone:
            (generation,) = od.run([case.task(self.ample)])
            if generation.error is not None:
                raise generation.error
            self.alone[case] = facts(generation)
        return self.alone[case]

    def differences(self, schedule: Schedule) -> list[str]:
        """What is not as it is alone."""
        model = self.small if schedule.small else self.ample
        tasks = [case.task(model) for case in schedule.cases]
        found = []
        for generation in od.run(tasks, max_live=schedule.max_live, max_tokens=schedule.max_tokens):
            case = schedule.cases[generation.index]
            if generation.error is not None:
                found.append(f"{case.spec}: {generation.error!r}")
            elif differs := difference(self.expected(case), facts(generation)):
                found.append(f"{case.spec} in {schedule}: {differs[0]}; alone {differs[1]}")
        return found


def main() -> None:
    options = arguments(
        __doc__,
        schedules={"type": int, "metavar": "N", "help": "how many, in both precisions together"},
        seed={"type": int, "default": 0, "help": "of the schedules (default: 0)"},
        crowd={"type": int, "metavar": "PROMPTS", "help": "every strategy on so many prompts, in place of that"},
    )
    count = (options.schedules or (40 if options.quick else 1_000)) // len(PRECISIONS)
    chance = random.Random(options.seed)
    columns = ["precision", "schedules", "tasks", "methods", "inferences", "pages evicted", "tasks that differ"]
    table = Table("the same bits in any company", columns)
    different: list[str] = []
    for precision in PRECISIONS:
        company = Company(precision, options.threads)
        before = len(different)
        if options.crowd:
            schedules = [Schedule.of_crowd(pool, chance) for pool in 2 * [crowd(company.ample, options.crowd)]]
        else:
            pool = cases(company.ample, chance)
            schedules = [Schedule.at_random(pool, number % 2 == 1, chance) for number in range(count)]
        with counted(PageCache, "_evict") as evictions, counted(PagedGraph, "start") as inferences:
            for schedule in schedules:
                different += company.differences(schedule)
        tasks = sum(len(schedule.cases) for schedule in schedules)
        methods = {case.spec for schedule in schedules for case in schedule.cases}
        differ = len(different) - before
        table.add(precision, len(schedules), tasks, len(methods), inferences[0], evictions[0], differ)
    table.finish(options)
    for line in different:
        print(line)
    sys.exit(1 if different else 0)


@contextmanager
def counted(kind: type, name: str) -> Iterator[list[int]]:
    """How often a method of a class is called inside the block."""
    calls, method = [0], getattr(kind, name)

    def counting(*values: Any) -> Any:
        calls[0] += 1
        return method(*values)

    with patch.object(kind, name, counting):
        yield calls


if __name__ == "__main__":
    main()
