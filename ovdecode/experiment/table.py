"""The table of an experiment: every method's figures with their intervals, and how it differs from a baseline."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.experiment import sheet
from ovdecode.experiment.comparison import Comparison, compare, oriented, pairs
from ovdecode.experiment.frames import data_frame
from ovdecode.experiment.resampling import Estimate, bca_intervals
from ovdecode.experiment.scores import Scores, chosen
from ovdecode.experiment.statistics import differences, win_matrix

if TYPE_CHECKING:
    import pandas

    from ovdecode.experiment.sheet import Sheet
    from ovdecode.experiment.store import Store


@dataclass(frozen=True)
class Row:
    """One method on one model.

    Attributes:
        model, strategy: which.
        finished, failed: how many texts there are, and how many of them failed.
        estimates: metric or cost to its mean.
        comparisons: metric to how it differs from the baseline; empty for the baseline.
    """

    model: str
    strategy: str
    finished: int
    failed: int
    estimates: Mapping[str, Estimate]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True)
class Summary:
    """The figures of all methods.

    It shows as a table in a notebook.

    Attributes:
        rows: by model and strategy, in the experiment's order.
        metrics: names of what was measured.
        costs: names of what was counted.
        baseline: what methods are compared with, if with any.
        level: of the intervals.
        scores: what it was made of.
    """

    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    costs: tuple[str, ...]
    baseline: str | None
    level: float
    scores: Scores

    def row(self, strategy: str, model: str | None = None) -> Row:
        """The row of a method; of the first model if none is named.

        Raises:
            UnknownNameError: if there is none.
        """
        model = self.scores.models[0] if model is None else chosen(model, self.scores.models, "model")
        strategy = chosen(strategy, self.scores.strategies, "strategy")
        return next(row for row in self.rows if (row.model, row.strategy) == (model, strategy))

    def win_matrix(self, metric: str, model: str | None = None) -> NDArray[np.int64]:
        """On how many prompts each method is better than each other, shape (strategies, strategies).

        It is higher, for a metric that has no better.
        """
        values = self.scores.metrics[chosen(metric, tuple(self.scores.metrics), "metric")]
        models = self.scores.models
        of_model = values[0 if model is None else models.index(chosen(model, models, "model"))]
        return win_matrix(oriented(of_model, metric))

    def sheets(self) -> list[Sheet]:
        """What the table shows: means, costs, and a comparison for each metric."""
        from ovdecode.experiment.layout import sheets

        return sheets(self)

    def to_markdown(self) -> str:
        """The table as GitHub's Markdown."""
        return sheet.to_markdown(self.sheets())

    def to_latex(self) -> str:
        """The table as LaTeX, with booktabs."""
        return sheet.to_latex(self.sheets())

    def _repr_html_(self) -> str:
        return sheet.to_html(self.sheets())

    def to_csv(self) -> str:
        """All numbers, unrounded: a line for each method and metric."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_FIELDS)
        writer.writerows([record[name] for name in _FIELDS] for record in self.records())
        return text.getvalue()

    def to_pandas(self) -> pandas.DataFrame:
        """All numbers as a data frame: a row for each method and metric.

        Raises:
            ConfigurationError: if pandas is not installed.
        """
        return data_frame(self.records(), _FIELDS)

    def records(self) -> Iterator[dict[str, Any]]:
        """All numbers: a mapping for each method and metric, None for what there is not."""
        for row, metric in product(self.rows, (*self.metrics, *self.costs)):
            estimate, comparison = row.estimates[metric], row.comparisons.get(metric)
            record = dict.fromkeys(_FIELDS) | {
                "model": row.model,
                "strategy": row.strategy,
                "metric": metric,
                "texts": row.finished,
                "failed": row.failed,
                "prompts": estimate.n,
                "prompts_without": estimate.dropped,
                "mean": _known(estimate.value),
                "low": estimate.low,
                "high": estimate.high,
                "level": self.level,
                "no_interval": estimate.reason or None,
            }
            if comparison is not None:
                record |= {
                    "baseline": self.baseline,
                    "pairs": comparison.difference.n,
                    "difference": _known(comparison.difference.value),
                    "difference_low": comparison.difference.low,
                    "difference_high": comparison.difference.high,
                    "p": _known(comparison.p),
                    "p_holm": _known(comparison.p_adjusted),
                    "cohens_d": _known(comparison.effect),
                    "cliffs_delta": _known(comparison.delta),
                    "wins": comparison.wins,
                    "ties": comparison.ties,
                    "losses": comparison.losses,
                    "prompts_needed": comparison.prompts_needed,
                }
            yield record


_FIELDS = (
    *("model", "strategy", "metric", "texts", "failed", "prompts", "prompts_without"),
    *("mean", "low", "high", "level", "no_interval"),
    *("baseline", "pairs", "difference", "difference_low", "difference_high", "p", "p_holm"),
    *("cohens_d", "cliffs_delta", "wins", "ties", "losses", "prompts_needed"),
)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def summary(
    store: Store,
    metrics: Items[str] | None = None,
    *,
    baseline: str | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Summary:
    """The figures of the methods of a store.

    Args:
        store: of an experiment that may still run.
        metrics: spec strings of those wanted; all that the experiment has if None.
        baseline: spec of the method that the others are compared with, on each model; with none if None.
        level: of the intervals.
        seed: of the resampling.

    Raises:
        UnknownNameError: for a metric or a baseline that the experiment has not; the message says which come near.
    """
    return summarise(Scores.read(store, metrics), baseline=baseline, level=level, seed=seed)


def summarise(scores: Scores, *, baseline: str | None = None, level: float = 0.95, seed: int = 0) -> Summary:
    """The figures of methods, from their scores. Parameters as for `summary`.

    Example:
        >>> texts = [("m", spec, prompt, {"length": prompt % 4 + extra}) for prompt in range(8)
        ...          for spec, extra in (("greedy", 0.0), ("sampling", 1.0))]
        >>> table = summarise(Scores.of(texts), baseline="greedy")
        >>> table.row("greedy").estimates["length"]
        Estimate(value=1.5, low=0.75, high=2.25, n=8, dropped=0, reason='')
        >>> table.row("sampling").comparisons["length"].p
        0.0078125
    """
    if not 0 < level < 1:
        raise ConfigurationError(f"`level` must be above 0 and below 1, got {level!r}")
    if baseline is not None:
        baseline = chosen(baseline, scores.strategies, "strategy")
    groups = list(np.ndindex(len(scores.models), len(scores.strategies)))
    compared = {} if baseline is None else pairs(scores, scores.strategies.index(baseline))
    single = [
        (name, *group, values[group]) for name, values in {**scores.metrics, **scores.costs}.items() for group in groups
    ]
    rows = [*(values for *_, values in single), *(differences(*pair) for pair in compared.values())]
    intervals = bca_intervals(np.array(rows), level, seed) if rows else []  # all at once, from the same draws
    estimates = {(name, *group): interval for (name, *group, _), interval in zip(single, intervals, strict=False)}
    estimates |= {
        (name, *group): _of_set(scores, name, group, float(values[group]))
        for name, values in scores.sets.items()
        for group in groups
    }
    comparisons = compare(compared, intervals[len(single) :], level, seed)
    names = (*scores.metrics, *scores.sets, *scores.costs)
    made = [
        Row(
            scores.models[model],
            scores.strategies[strategy],
            int(scores.finished[model, strategy]),
            int(scores.failed[model, strategy]),
            {name: estimates[name, model, strategy] for name in names},
            {name: comparisons[key] for name in names if (key := (name, model, strategy)) in comparisons},
        )
        for model, strategy in groups
    ]
    return Summary(tuple(made), (*scores.metrics, *scores.sets), tuple(scores.costs), baseline, level, scores)


def _of_set(scores: Scores, metric: str, group: tuple[int, int], value: float) -> Estimate:
    wrong = scores.errors.get(metric, {}).get(group)
    reason = next(iter(wrong)) if wrong else "one value for all texts together"
    return Estimate(value, None, None, 0, 0, "no value" if math.isnan(value) and not wrong else reason)
