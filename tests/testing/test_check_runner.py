"""Law 8 over every runner, and over runners that break it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ovdecode.forward import Answer, Forward
from ovdecode.models import ModelFolder
from ovdecode.runners.base import ModelRunner, Pending
from ovdecode.runners.explicit import ExplicitRunner
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.precision import EXACT
from ovdecode.runners.stateful import StatefulRunner
from ovdecode.runners.table import TableRunner
from ovdecode.sequence import Sequence
from ovdecode.testing.runners import check_runner


def random_row(tokens: tuple[int, ...]) -> Any:
    """A row that all of the tokens matter to."""
    return np.random.default_rng([*tokens, len(tokens)]).normal(size=7)


MAKERS: dict[str, Callable[[Any], ModelRunner]] = {
    "table": lambda model: TableRunner(random_row, hidden=random_row, layers={0: random_row}),
    "paged, fast": PagedRunner,
    "paged, invariant": lambda model: PagedRunner(model, precision="invariant"),
    "paged, exact": lambda model: PagedRunner(model, precision="exact"),
    "paged, exact, small cache": lambda model: PagedRunner(model, precision="exact", cache_bytes=16 * 32 * 46_080),
    "stateful": lambda model: StatefulRunner(model, properties=EXACT),
    "explicit": lambda model: ExplicitRunner(model, properties=EXACT),
}


@pytest.fixture(scope="module")
def model(smollm2_folder: ModelFolder) -> Any:
    import openvino as ov

    return ov.Core().read_model(smollm2_folder.xml)


@pytest.mark.parametrize("name", MAKERS)
def test_every_runner_gives_what_recomputing_gives(name: str, model: Any) -> None:
    check_runner(MAKERS[name](model), seed=5, rounds=10)


class Sound(TableRunner):
    """What the broken ones below are but for one fault."""

    def recompute(self, tokens: Any, request: Forward) -> Answer:
        answer = super().recompute(tokens, request)
        answer.logsumexp.flags.writeable = False
        return answer


def test_a_sound_runner_passes() -> None:
    check_runner(Sound(random_row), rounds=20)
    check_runner(Sound(random_row, hidden=random_row, layers={0: random_row}), seed=1, rounds=20)


class Telling(Sound):
    """One that also says of its logits what it should; blocks are of one token."""

    def recompute(self, tokens: Any, request: Forward) -> Answer:
        answer = super().recompute(tokens, request)
        weights = np.exp(answer.logits - answer.logits.max(axis=1, keepdims=True))
        return replace(answer, blocks=np.stack([answer.logits, weights], axis=1), weights=weights)


def test_what_a_runner_tells_of_its_logits_may_be_true() -> None:
    check_runner(Telling(random_row), rounds=5)


@pytest.mark.parametrize("name", ["blocks", "weights"])
def test_what_a_runner_tells_of_its_logits_must_be_true(name: str) -> None:
    class Untrue(Telling):
        def recompute(self, tokens: Any, request: Forward) -> Answer:
            answer = super().recompute(tokens, request)
            return replace(answer, **{name: getattr(answer, name) + np.float32(0.01)})

    with pytest.raises(AssertionError, match=f"Runners agree: `{name}` must be what it is of the answer's own logits"):
        check_runner(Untrue(random_row), rounds=5)


class WrongRowOrder(Sound):
    def submit(self, requests: Items[Forward]) -> Pending:
        by_length = sorted(requests, key=lambda request: request.sequence.length)
        return lambda: [self.recompute(one.sequence.tokens, replace(one)) for one in by_length]


class StaleCache(Sound):
    """Takes the same length and last token for the same sequence, as if taking back cleared nothing."""

    def __init__(self, *table: Any) -> None:
        super().__init__(*table)
        self.cache: dict[Any, Answer] = {}

    def submit(self, requests: Items[Forward]) -> Pending:
        keys = [(one.sequence.length, one.sequence.token, one.last) for one in requests]
        for key, one in zip(keys, requests, strict=True):
            self.cache.setdefault(key, self.recompute(one.sequence.tokens, one))
        return lambda: [self.cache[key] for key in keys]


class Leaking(Sound):
    """Keeps a sequence alive for ever."""

    def __init__(self, *table: Any) -> None:
        super().__init__(*table)
        self.kept: set[Sequence] = set()

    def submit(self, requests: Items[Forward]) -> Pending:
        self.kept.update(request.sequence for request in requests)
        return super().submit(requests)

    @property
    def cache_in_use(self) -> int:
        return len(self.kept)


class Overwriting(Sound):
    """Hands out views of its own buffers, as an infer request does."""

    def __init__(self, *table: Any) -> None:
        super().__init__(*table)
        self.buffers = np.zeros((8, 8, 7), np.float32)

    def submit(self, requests: Items[Forward]) -> Pending:
        wait = super().submit(requests)

        def answers() -> list[Answer]:
            found = []
            for buffer, answer in zip(self.buffers, wait(), strict=False):
                view = buffer[: len(answer.logits)]
                view[:] = answer.logits
                view.flags.writeable = False
                found.append(replace(answer, logits=view))
            return found

        return answers


class NotANumber(Sound):
    tolerance = 1e-3

    def submit(self, requests: Items[Forward]) -> Pending:
        wait = super().submit(requests)

        def answers() -> list[Answer]:
            found = [replace(answer, logits=np.full_like(answer.logits, np.nan)) for answer in wait()]
            for answer in found:
                answer.logits.flags.writeable = False
            return found

        return answers


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WrongRowOrder, "recomputing|float32 of"),
        (StaleCache, "bits of recomputing"),
        (Leaking, "when all sequences are gone"),
        (Overwriting, "while held"),
        (NotANumber, "within 0.001 of recomputing"),
    ],
)
def test_a_broken_runner_is_found_out(broken: type[TableRunner], message: str) -> None:
    with pytest.raises(AssertionError, match=rf"^Runners agree.*({message})"):
        check_runner(broken(random_row), rounds=20)
