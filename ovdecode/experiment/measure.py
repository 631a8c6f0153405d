"""Metrics of what is finished: those that are missing, and those that failed before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.prompts import Prompt
from ovdecode.experiment.record import Record
from ovdecode.experiment.store import Store
from ovdecode.generation import Cost
from ovdecode.spec import parse

if TYPE_CHECKING:
    from ovdecode.metric import Metric, Result, SetMetric, TextMetric
    from ovdecode.model import Model

CHUNK = 64
"""How many texts are measured at once: in one batch, by a metric that asks a model."""


def measure(store: Store, model: Callable[[str], Model], go_on: Callable[[], bool]) -> None:
    """Measure all that is finished and did not fail, and append the values to the store.

    Args:
        store: with the metrics of its experiment.
        model: gives the model of a source.
        go_on: asked now and then; false to end early, with what is measured kept.
    """
    from ovdecode.metric import SetMetric

    metrics = {spec: cast("Metric", parse(spec, "metric")) for spec in store.experiment.metrics}
    sets = {spec: metric for spec, metric in metrics.items() if isinstance(metric, SetMetric)}
    results = _Results(store, model)
    good = store.finished & ~store.failed
    wanted = {spec: good & ~store.measurements.measured(spec) for spec in metrics if spec not in sets}
    places = np.flatnonzero(np.any(list(wanted.values()), axis=0)).tolist() if wanted else []
    for start in range(0, len(places), CHUNK):
        if not go_on():
            return
        chunk = places[start : start + CHUNK]
        found = dict(zip(chunk, results(chunk), strict=True))
        for some, specs in _alike(chunk, wanted):
            texts = [found[place] for place in some]
            store.measurements.append(some, {spec: _measured(metrics[spec], texts) for spec in specs})
    for spec, metric in sets.items():
        for group in store.measurements.unmeasured_sets(spec):
            if not go_on():
                return
            members = results(store.set_places(*group).tolist())
            store.measurements.append_set(*group, spec, _measured_set(metric, members))


def _alike(chunk: list[int], wanted: Mapping[str, NDArray[np.bool_]]) -> Iterator[tuple[list[int], list[str]]]:
    """The metrics that are missing at the same places of a chunk, with these places."""
    by_places: dict[tuple[int, ...], list[str]] = {}
    for spec, missing in wanted.items():
        by_places.setdefault(tuple(place for place in chunk if missing[place]), []).append(spec)
    return ((list(places), specs) for places, specs in by_places.items() if places)


def _measured(metric: Metric, results: list[Result]) -> list[float | Exception]:
    """The value for each text. Whatever a metric does, the results and the other metrics stand."""
    try:
        values = cast("TextMetric", metric).measure(results)
        if len(values) != len(results):
            raise ConfigurationError(f"`measure` must give {len(results)} values for as many texts, got {len(values)}")
    except Exception as error:
        return [error] * len(results)
    return [_checked(value) for value in values]


def _measured_set(metric: SetMetric, results: list[Result]) -> float | Exception:
    try:
        return _checked(metric(results))
    except Exception as error:
        return error


def _checked(value: float | Exception) -> float | Exception:
    """A value as a number; if it is none, an error."""
    try:
        return value if isinstance(value, Exception) else float(value)
    except (TypeError, ValueError) as error:
        return error


class _Results:
    """What metrics see of the cells at some places."""

    def __init__(self, store: Store, model: Callable[[str], Model]) -> None:
        self._store, self._model = store, model
        self._tokens = lru_cache(CHUNK)(self._encode)

    def __call__(self, places: list[int]) -> list[Result]:
        return [self._result(record) for record in self._store.records(places)]

    def _result(self, record: Record) -> Result:
        from ovdecode.metric import Result

        prompt = self._store.prompts[record.prompt]
        tokens = self._tokens(record.model, record.prompt)
        return Result(
            text=record.text,
            tokens=record.tokens,
            logprobs=tuple(map(_number, record.logprobs)),
            prompt=prompt.text,
            references=prompt.references,
            stop=record.stop or "",
            cost=Cost(
                record.forwards,
                record.model_tokens,
                record.seconds,
                record.time_to_first_token,
                record.cache_bytes,
            ),
            info={name: _number(value) for name, value in record.info.items()},
            strategy=record.strategy,
            model=self._model(record.model),
            prompt_tokens=tokens[: len(tokens) - record.taken_back],
        )

    def _encode(self, source: str, index: int) -> tuple[int, ...]:
        model, prompt = self._model(source), self._store.prompts[index]
        return tuple(prompt_tokens(model, prompt))


def prompt_tokens(model: Model, prompt: Prompt) -> list[int]:
    """A prompt as a model reads it."""
    if prompt.messages is None:
        return model.encode(prompt.text)
    return model.apply_chat_template(prompt.messages)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
