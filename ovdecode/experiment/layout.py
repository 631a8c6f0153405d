"""How a summary is laid out for reading: which sheets, which columns, how many digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ovdecode.experiment.scores import higher_is_better
from ovdecode.experiment.sheet import Sheet

if TYPE_CHECKING:
    from ovdecode.experiment.comparison import Comparison
    from ovdecode.experiment.resampling import Estimate
    from ovdecode.experiment.table import Row, Summary

NOTHING = "–"
_UNITS = {"time_to_first_token": " (s)"}
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def sheets(summary: Summary) -> list[Sheet]:
    """Means, costs, and a comparison for each metric."""
    pages = [_means(summary, "Methods", summary.metrics)]
    if summary.costs:
        pages.append(_means(summary, "Cost", summary.costs))
    compared = [metric for metric in summary.metrics if any(metric in row.comparisons for row in summary.rows)]
    return pages + [_compared(summary, metric) for metric in compared]


def win_sheets(summary: Summary, metric: str) -> list[Sheet]:
    """On how many prompts each method is better than each other: a sheet for each model."""
    names = [f"{number} {strategy}" for number, strategy in enumerate(summary.scores.strategies, start=1)]
    found = []
    for model in summary.scores.models:
        matrix = summary.win_matrix(metric, model).tolist()
        rows = [
            (name, *(NOTHING if column == line else str(wins) for column, wins in enumerate(row)))
            for line, (name, row) in enumerate(zip(names, matrix, strict=True))
        ]
        where = f" on {model}" if len(summary.scores.models) > 1 else ""
        title = (
            f"{metric}{where}: on how many prompts the method of the line is {_better(metric)} than that of the column"
        )
        found.append(Sheet(title, ("method", *(name.partition(" ")[0] for name in names)), tuple(rows)))
    return found


def _means(summary: Summary, title: str, metrics: tuple[str, ...]) -> Sheet:
    head = (*_names(summary), "texts", "failed", *map(titled, metrics))
    rows = tuple(
        (*_who(summary, row), str(row.finished), str(row.failed), *(shown(row.estimates[metric]) for metric in metrics))
        for row in summary.rows
    )
    notes = (
        f"Mean over prompts [{summary.level * 100:g} % interval, BCa bootstrap]; samples of one prompt are averaged "
        "first. n: prompts with a value, where some have none. ↑, ↓: more or less of it is better.",
        *_reasons(summary, metrics),
        *_errors(summary, metrics),
    )
    return Sheet(title, head, rows, len(_names(summary)), notes)


def _compared(summary: Summary, metric: str) -> Sheet:
    rows = tuple(
        (*_who(summary, row), *_comparison(row.comparisons[metric]))
        for row in summary.rows
        if metric in row.comparisons
    )
    interval = f"difference [{summary.level * 100:g} %]"
    counts = "higher/equal/lower" if higher_is_better(metric) is None else "better/equal/worse"
    head = (*_names(summary), interval, "p", "p (Holm)", "d", "δ", counts, "prompts needed")
    notes = (
        f"Paired by prompt. p: permutation test; Holm: adjusted over the {len(rows)} comparisons of this sheet. "
        "d: Cohen's d of paired differences. δ: Cliff's delta. Prompts needed: to find a difference of the size seen "
        "four times of five; it is as uncertain as that size.",
        *_told(
            {
                (row.comparisons[metric].difference.reason, row.strategy)
                for row in summary.rows
                if metric in row.comparisons
            }
        ),
    )
    return Sheet(f"{titled(metric)}: difference to {summary.baseline}", head, rows, len(_names(summary)), notes)


def _comparison(found: Comparison) -> tuple[str, ...]:
    needed = NOTHING if found.prompts_needed is None else str(found.prompts_needed)
    counts = f"{found.wins}/{found.ties}/{found.losses}"
    tests = p_value(found.p), p_value(found.p_adjusted)
    effects = number(found.effect, 2), number(found.delta, 2)
    return shown(found.difference), *tests, *effects, counts, needed


def _names(summary: Summary) -> tuple[str, ...]:
    return ("model", "method") if len(summary.scores.models) > 1 else ("method",)


def _who(summary: Summary, row: Row) -> tuple[str, ...]:
    return (row.model, row.strategy) if len(summary.scores.models) > 1 else (row.strategy,)


def _better(metric: str) -> str:
    return {True: "better", False: "better", None: "higher"}[higher_is_better(metric)]


def _reasons(summary: Summary, metrics: Iterable[str]) -> Iterator[str]:
    return _told({(row.estimates[metric].reason, metric) for row in summary.rows for metric in metrics})


def _told(reasons: set[tuple[str, str]]) -> Iterator[str]:
    """Why there are no intervals, each reason once, with what it holds for."""
    by_reason: dict[str, list[str]] = {}
    for reason, what in sorted(reasons):
        by_reason.setdefault(reason, []).append(what)
    return (f"No interval [{NOTHING}] for {', '.join(of)}: {reason}." for reason, of in by_reason.items() if reason)


def _errors(summary: Summary, metrics: Iterable[str]) -> Iterator[str]:
    scores = summary.scores
    for metric in metrics:
        if metric in scores.sets:  # said as the reason why there is no interval
            continue
        for (_, strategy), wrong in sorted(scores.errors.get(metric, {}).items()):
            error, *more = sorted(wrong, key=lambda error: -wrong[error])
            said = f"{error}, and {len(more)} other errors" if more else error
            yield f"{metric} failed on {sum(wrong.values())} texts of {scores.strategies[strategy]}: {said}"


def titled(metric: str) -> str:
    """A metric's name, with an arrow that points to the better."""
    return f"{metric}{_UNITS.get(metric, '')}{_ARROWS[higher_is_better(metric)]}"


def shown(estimate: Estimate) -> str:
    """A mean with its interval, to two digits of the interval's half-width.

    Example:
        >>> from ovdecode.experiment.statistics import Estimate
        >>> shown(Estimate(0.81234, 0.7791, 0.8412, n=50))
        '0.812 [0.779, 0.841]'
        >>> shown(Estimate(0.81234, None, None, n=2, dropped=1, reason="fewer than 6 prompts"))
        '0.8123 [–] (n=2)'
    """
    if math.isnan(estimate.value):
        return NOTHING
    count = f" (n={estimate.n})" if estimate.dropped else ""
    if estimate.low is None or estimate.high is None:
        return f"{_short(estimate.value)} [{NOTHING}]{count}"
    half = (estimate.high - estimate.low) / 2
    digits = 0 if not half else min(max(1 - math.floor(math.log10(half)), 0), 9)
    return f"{number(estimate.value, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]{count}"


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−").replace("inf", "∞")


def number(value: float, digits: int) -> str:
    """A number with so many decimals; "–" for NaN.

    Example:
        >>> number(-0.256, 2), number(float("nan"), 2), number(-0.001, 2)
        ('−0.26', '–', '0.00')
    """
    if math.isnan(value):
        return NOTHING
    text = f"{value:.{digits}f}".replace("inf", "∞")
    return text.replace("-", "−") if any(character not in "-0." for character in text) else text.removeprefix("-")


def p_value(p: float) -> str:
    """A p-value to three decimals.

    Example:
        >>> p_value(0.03125), p_value(0.00002)
        ('0.031', '<0.001')
    """
    return "<0.001" if p < 0.0005 else number(p, 3)
