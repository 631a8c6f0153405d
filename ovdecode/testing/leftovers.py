"""Law 5: when a strategy has returned, raised or been cancelled, nothing it made is alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ovdecode.engine import Engine, Task
from ovdecode.engine.task import Prompt
from ovdecode.errors import LogitsError
from ovdecode.generation import Generation
from ovdecode.model import Model
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Outcome, Strategy
from ovdecode.testing.cases import (
    MAX_NEW_TOKENS,
    PROMPTS,
    alive,
    broken,
    check_success,
    models_of,
    table_model,
)

LAW = "Nothing is left behind"
END = 1_000_000


def law_nothing_left(
    strategy: Strategy,
    model: Model | None = None,
    prompts: Items[Prompt] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    *,
    interruptions: int = 8,
) -> None:
    """No sequence of a strategy outlives it and no cache is in use: after a return, an error, a cancellation.

    This holds at once, without the garbage collector, and while the result is held (with its error, if any).

    Args:
        strategy: what is tested.
        model: what it decodes with; a real one shows whether its cache is free.
        prompts: where to start.
        max_new_tokens: how long it runs.
        interruptions: at how many of its requests, at the most, it is interrupted.

    Raises:
        AssertionError: if it does not hold.
    """
    model = model or table_model()
    for prompt in prompts or PROMPTS:
        task = Task(model, prompt, strategy, max_new_tokens)
        with _swept(strategy, model, "after it returned"):
            steps, result = _cancelled_after(END, task)
            check_success(LAW, result)
        for step in range(0, steps, max(1, -(-steps // interruptions))):
            with _swept(strategy, model, f"after it was cancelled at request {step + 1}"):
                _cancelled_after(step, task)
            with _swept(strategy, model, f"after it was closed with its engine at request {step + 1}"):
                _closed_after(step, task)
            with _swept(strategy, model, f"after request {step + 1} raised a LogitsError") as held:
                held.append(_only(Task(model, prompt, Interrupted(strategy, step), max_new_tokens)))


@dataclass(frozen=True)
class Interrupted(Strategy):
    """Another strategy, into which an error is thrown where it waits for its answers.

    Args:
        strategy: what is interrupted.
        after: how many of its requests are answered before.
    """

    strategy: Strategy
    after: int

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Pass requests on until it is time."""
        return _interrupt(self.strategy.decode(prompt, stop, rng), self.after)


def _interrupt(decoding: Decoding, after: int) -> Decoding:
    answer: Any = None
    try:
        for _ in range(after):
            answer = yield decoding.send(answer)
        decoding.send(answer)
        decoding.throw(LogitsError("injected by `law_nothing_left`"))
    except StopIteration as finished:
        value: Sequence | Outcome = finished.value
        return value
    finally:
        decoding.close()
    raise LogitsError("injected by `law_nothing_left`, and caught by the strategy")


def _cancelled_after(steps: int, task: Task) -> tuple[int, Generation]:
    engine = Engine()
    job = engine.submit(task)
    taken = 0
    while job.result is None:
        if taken == steps:
            job.cancel()
        engine.step()
        taken += 1
    return taken, job.result


def _closed_after(steps: int, task: Task) -> None:
    engine = Engine()
    engine.submit(task)
    for _ in range(steps):
        engine.step()
    engine.close()


def _only(task: Task) -> Generation:
    (generation,) = Engine().run([task])
    return generation


@contextmanager
def _swept(strategy: Strategy, model: Model, when: str) -> Iterator[list[Generation]]:
    """Nothing may be alive at the end that was not at the beginning, even without the garbage collector."""
    models = [model, *models_of(strategy)]
    enabled = gc.isenabled()
    gc.disable()
    before = _held(models)
    held: list[Generation] = []
    try:
        yield held
        after = _held(models)
        if after != before:
            gc.collect()
            why = "in a reference cycle" if _held(models) == before else "held by somebody"
            sequences, pages = after[0] - before[0], after[1] - before[1]
            seen = f"{sequences} sequences alive and {pages} pages in use {when}, {why}"
            raise broken(LAW, strategy, seen, "none")
    finally:
        if enabled:
            gc.enable()


def _held(models: list[Model]) -> tuple[int, int]:
    """How many sequences are alive, and how many units of cache are in use."""
    vocabularies = {model.vocabulary for model in models}
    runners = {model.runner for model in models}
    return sum(map(alive, vocabularies)), sum(runner.cache_in_use for runner in runners)
