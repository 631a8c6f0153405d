"""Deliberately broken metrics: each law is broken by one of them, and says so by its name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ovdecode import register, registry
from ovdecode.metric import Metric, Result, SetMetric, TextMetric
from ovdecode.testing import check_metric, law_metric_isolation, law_metric_purity, sample_results


@contextmanager
def refused(law: str) -> Iterator[None]:
    with pytest.raises(AssertionError, match=f"^{law}"):
        yield


@dataclass(frozen=True)
class Length(TextMetric):
    """A sound metric, for others to break."""

    def __call__(self, result: Result) -> float:
        return float(len(result.tokens))


@dataclass(frozen=True)
class Writing(Length):
    def __call__(self, result: Result) -> float:
        result.info["length"] = 1.0  # type: ignore[index]
        return super().__call__(result)


@dataclass(frozen=True)
class Emptying(SetMetric):
    def __call__(self, results: Items[Result]) -> float:
        results.clear()  # type: ignore[attr-defined]
        return math.nan


@dataclass(frozen=True)
class Remembering(Length):
    seen: list[int] = field(default_factory=list, compare=False)

    def __call__(self, result: Result) -> float:
        self.seen.append(1)
        return float(len(self.seen))


@dataclass(frozen=True)
class Comparing(Length):
    def measure(self, results: Items[Result]) -> list[float | Exception]:
        most = max((len(result.text) for result in results), default=1)
        return [len(result.text) / max(most, 1) for result in results]


@dataclass(frozen=True)
class Fragile(Length):
    def measure(self, results: Items[Result]) -> list[float | Exception]:
        return [self(result) for result in results]


@dataclass(frozen=True)
class Blind(Length):
    def measure(self, results: Items[Result]) -> list[float | Exception]:
        return [1.0 for _ in results]


@dataclass(frozen=True)
class Failing(Length):
    def __call__(self, result: Result) -> float:
        return 1 / len(result.tokens)


@dataclass(frozen=True)
class Zero(SetMetric):
    def __call__(self, results: Items[Result]) -> float:
        return float(len(results))


@pytest.mark.parametrize("metric", [Writing(), Emptying(), Remembering()])
def test_purity(metric: Metric) -> None:
    with refused("Purity"):
        law_metric_purity(metric, sample_results())


@pytest.mark.parametrize("metric", [Comparing(), Fragile(), Blind(), Failing(), Zero()])
def test_isolation(metric: Metric) -> None:
    with refused("Isolation"):
        law_metric_isolation(metric, sample_results())


def test_configuration_is_held_to_as_well() -> None:
    with refused("Configuration"):
        check_metric(Length())  # its docstring names no source, and it is not registered


def test_a_sound_metric_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @register("sound")
    @dataclass(frozen=True)
    class Sound(Length):
        """The number of tokens.

        Source: none.
        """

    check_metric(Sound())


def test_samples_are_of_several_prompts_with_references_and_one_is_empty() -> None:
    results = sample_results()
    assert len({result.prompt_tokens for result in results}) == 3
    assert all(result.references and result.model for result in results)
    assert [result.text for result in results].count("") >= 1
    assert len({result.tokens for result in results}) > 6
