"""Figures for papers: every method's interval, and one metric against another; PNG, SVG or PDF."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from collections.abc import Sequence as Items
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.layout import titled
from ovdecode.experiment.scores import chosen, higher_is_better
from ovdecode.experiment.statistics import pareto_front
from ovdecode.extras import from_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ovdecode.experiment.resampling import Estimate
    from ovdecode.experiment.table import Row, Summary

_MARKS = "osD^vPX*"


def draw_intervals(summary: Summary, metric: str) -> Figure:
    """Every method's mean in a metric or cost, with its interval where there is one."""
    metric = chosen(metric, (*summary.metrics, *summary.costs), "metric")
    figure, axes = _figure(6.4, 1.2 + 0.32 * len(summary.rows))
    for place, row in enumerate(summary.rows):
        estimate = row.estimates[metric]
        if math.isfinite(estimate.value):
            axes.errorbar(estimate.value, place, xerr=_arms(estimate), **_look(place))
    axes.set_yticks(range(len(summary.rows)), [_label(summary, row) for row in summary.rows], parse_math=False)
    axes.set_ylim(len(summary.rows) - 0.5, -0.5)
    axes.set_xlabel(titled(metric), parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    return figure


def draw_tradeoff(summary: Summary, x: str, y: str) -> Figure:
    """Every method as a point with its intervals, such as quality against diversity.

    A line joins the methods that no other beats in both, on each model; there is none where a metric has no better.
    """
    known = (*summary.metrics, *summary.costs)
    x, y = chosen(x, known, "metric"), chosen(y, known, "metric")
    figure, axes = _figure(6.4, 4.4 + 0.2 * len(summary.rows))
    for place, row in enumerate(summary.rows):
        across, up = row.estimates[x], row.estimates[y]
        if not math.isfinite(across.value + up.value):
            continue
        arms = {"xerr": _arms(across), "yerr": _arms(up)}
        axes.errorbar(across.value, up.value, label=_label(summary, row), **arms, **_look(place))
    for front in _fronts(summary, x, y):
        axes.plot(*front.T, "--", color="gray", zorder=0)
    axes.set_xlabel(titled(x), parse_math=False)
    axes.set_ylabel(titled(y), parse_math=False)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        legend = figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def write_figures(
    summary: Summary, folder: str | Path, metrics: Items[str] | None = None, suffix: str = ".pdf"
) -> list[Path]:
    """Write a figure of intervals for each metric, and one of the first metric against each of the others.

    Args:
        summary: what to draw.
        folder: is made if there is none.
        metrics: which; all that were measured if None, and costs if nothing was.
        suffix: kind of file: `.pdf`, `.svg` or `.png`.

    Returns:
        The files.

    Raises:
        ConfigurationError: if matplotlib can't be imported, or a file can't be written.
    """
    if suffix not in (".pdf", ".svg", ".png"):
        raise ConfigurationError(f"`suffix` must be one of .pdf, .svg, .png, got {suffix!r}")
    drawn = tuple(metrics) if metrics is not None else summary.metrics or summary.costs
    names = _file_names(drawn)
    figures = {name: draw_intervals(summary, metric) for name, metric in zip(names, drawn, strict=True)}
    for name, metric in zip(names[1:], drawn[1:], strict=True):
        figures[f"{names[0]}-{name}"] = draw_tradeoff(summary, metric, drawn[0])
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}{suffix}", dpi=200)
    except OSError as error:
        raise ConfigurationError(f"`{folder}` must be a folder that can be written, but: {error}") from error
    return [folder / f"{name}{suffix}" for name in figures]


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figures = from_extra("report", "matplotlib.figure", "a figure")
    figure = figures.Figure(figsize=(width, height), layout="constrained")  # its own: pyplot would keep it for ever
    return figure, figure.add_subplot()


def _look(place: int) -> dict[str, Any]:
    """Ten colours, then the same with another mark."""
    return {"fmt": _MARKS[place // 10 % len(_MARKS)], "color": f"C{place % 10}", "capsize": 3}


def _arms(estimate: Estimate) -> list[list[float]] | None:
    """The interval as lengths to both sides; a mean of skewed values may lie outside of it."""
    if estimate.low is None or estimate.high is None:
        return None
    return [[max(estimate.value - estimate.low, 0.0)], [max(estimate.high - estimate.value, 0.0)]]


def _label(summary: Summary, row: Row) -> str:
    return f"{row.model}: {row.strategy}" if len(summary.scores.models) > 1 else row.strategy


def _fronts(summary: Summary, x: str, y: str) -> Iterator[np.ndarray[Any, Any]]:
    """The points that no other beats, on each model, from left to right, shape (points, 2)."""
    signs = [{True: 1.0, False: -1.0, None: math.nan}[higher_is_better(metric)] for metric in (x, y)]
    for model in summary.scores.models:
        rows = [row for row in summary.rows if row.model == model]
        points = np.array([[row.estimates[x].value, row.estimates[y].value] for row in rows])
        front = points[pareto_front(*(points * signs).T)]
        if len(front) > 1:
            yield front[np.lexsort((front[:, 1], front[:, 0]))]


def _file_names(metrics: Items[str]) -> list[str]:
    """The specs of metrics as names that every file system takes, no two of them the same."""
    names: list[str] = []
    for metric in metrics:
        name = re.sub(r"[^A-Za-z0-9_.=]+", "_", metric).strip("._")[:80] or "metric"
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return names
