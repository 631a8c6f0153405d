"""Scores: what was measured of every method, as plain arrays of one number for each prompt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.resampling import Floats
from ovdecode.experiment.statistics import within_prompts
from ovdecode.registry import unknown
from ovdecode.spec import parse

if TYPE_CHECKING:
    from ovdecode.experiment.store import Store

_COSTS: Mapping[str, bool | None] = {
    "length": None,
    "forwards": False,
    "tokens_per_second": True,
    "time_to_first_token": False,
}
"""What is known of every text's cost, whatever was measured; and whether more of it is better."""


@dataclass(frozen=True)
class Scores:
    """What was measured of every method.

    Attributes:
        models, strategies: names.
        finished, failed: how many texts were finished, and how many of them failed, shape (models, strategies).
        metrics: name to values, samples of one prompt averaged, shape (models, strategies, prompts); NaN for none.
        costs: as `metrics`, of what it cost.
        sets: name to values of all texts of a method together, shape (models, strategies).
        errors: name to what went wrong with a metric, by (model, strategy), each message with how often.
    """

    models: tuple[str, ...]
    strategies: tuple[str, ...]
    finished: NDArray[np.int64]
    failed: NDArray[np.int64]
    metrics: Mapping[str, Floats] = field(default_factory=dict)
    costs: Mapping[str, Floats] = field(default_factory=dict)
    sets: Mapping[str, Floats] = field(default_factory=dict)
    errors: Mapping[str, Mapping[tuple[int, int], Mapping[str, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Iterable[tuple[str, str, int, Mapping[str, float] | None]]) -> Scores:
        """The scores of results that were measured anywhere.

        Args:
            results: model, strategy, number of the prompt, and metric to value, or None for a text that failed. Several
                of one prompt are samples.

        Example:
            >>> Scores.of([("m", "greedy", 0, {"length": 2.0}), ("m", "greedy", 0, {"length": 4.0})]).metrics
            {'length': array([[[3.]]])}
        """
        models: dict[str, int] = {}
        strategies: dict[str, int] = {}
        counts: dict[tuple[int, int], list[int]] = {}
        sums: dict[str, dict[tuple[int, int, int], tuple[float, int]]] = {}
        prompts = 0
        for model, strategy, prompt, values in results:
            group = models.setdefault(model, len(models)), strategies.setdefault(strategy, len(strategies))
            count = counts.setdefault(group, [0, 0])
            count[0] += 1
            count[1] += values is None
            prompts = max(prompts, prompt + 1)
            for metric, value in (values or {}).items():
                known, place = sums.setdefault(metric, {}), (*group, prompt)
                if not math.isnan(value):
                    total, samples = known.get(place, (0.0, 0))
                    known[place] = total + value, samples + 1
        shape = len(models), len(strategies)
        texts = np.zeros((*shape, 2), np.int64)
        for group, count in counts.items():
            texts[group] = count
        metrics = {metric: np.full((*shape, prompts), math.nan) for metric in sums}
        for metric, known in sums.items():
            for where, (total, samples) in known.items():
                metrics[metric][where] = total / samples
        return cls(tuple(models), tuple(strategies), texts[..., 0], texts[..., 1], metrics)

    @classmethod
    def read(cls, store: Store, metrics: Items[str] | None = None) -> Scores:
        """The scores in a store. No text is read.

        Args:
            store: of an experiment that may still run.
            metrics: spec strings of those wanted; all that the experiment has if None.

        Raises:
            UnknownNameError: for a metric that the experiment has not.
        """
        plan = store.experiment
        wanted = plan.metrics if metrics is None else tuple(chosen(name, plan.metrics, "metric") for name in metrics)
        costs = {name: values for name, values in _costs(store).items() if name not in wanted}
        finished = store.finished.reshape(store.shape)
        failed = store.failed.reshape(store.shape) & finished
        values: dict[str, Floats] = {}
        sets: dict[str, Floats] = {}
        errors: dict[str, dict[tuple[int, int], dict[str, int]]] = {}
        for metric in wanted:
            if not store.measurements.measured(metric).any():  # of no text alone: if at all, then of all together
                of_set = store.set_values(metric)
                wrong = store.measurements.set_errors(metric) if np.isnan(of_set).any() else {}
                if wrong or not np.isnan(of_set).all():
                    sets[metric] = of_set
                    errors[metric] = {group: {error: 1} for group, error in wrong.items()}
                    continue
            values[metric] = _by_prompt(store.values(metric))
            errors[metric] = {}
            for place, error in store.measurements.errors(metric).items():
                model, _, strategy, _ = np.unravel_index(place, store.shape)
                said = errors[metric].setdefault((int(model), int(strategy)), {})
                said[error] = said.get(error, 0) + 1
        return cls(
            tuple(plan.models),
            tuple(plan.strategies),
            finished.sum((1, 3)),
            failed.sum((1, 3)),
            values,
            costs,
            sets,
            errors,
        )


def _costs(store: Store) -> dict[str, Floats]:
    costs = store.costs()
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(costs["seconds"] > 0, costs["length"] / costs["seconds"], math.nan)
    return {name: _by_prompt(costs.get(name, rate)) for name in _COSTS}


def _by_prompt(values: Floats) -> Floats:
    averaged: Floats = within_prompts(values).swapaxes(1, 2)
    return averaged  # (models, strategies, prompts)


def chosen(name: str, known: Items[str], family: str) -> str:
    """The one of the known specs that a spec names, in whatever spelling.

    Raises:
        UnknownNameError: if it names none of them; the message says which come near.
    """
    if name in known:
        return name
    try:
        spec = str(parse(name, family))
    except (ConfigurationError, LookupError):
        spec = name
    if spec not in known:
        raise unknown(f"{family} of these results:", name, known)
    return spec


def higher_is_better(metric: str) -> bool | None:
    """Whether more of a metric is what one wants; None if neither more nor less is, or it is not known."""
    if metric in _COSTS:
        return _COSTS[metric]
    try:
        return getattr(parse(metric, "metric"), "higher_is_better", None)
    except (ConfigurationError, LookupError):
        return None
