"""The page: everything in one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.layout import shown, win_sheets
from ovdecode.experiment.report.charts import charts, colors, library
from ovdecode.experiment.report.texts import embedded, short
from ovdecode.experiment.scores import higher_is_better
from ovdecode.spec import parse

if TYPE_CHECKING:
    from ovdecode.experiment.resampling import Estimate
    from ovdecode.experiment.sheet import Sheet
    from ovdecode.experiment.table import Summary


def render(
    title: str,
    facts: Iterable[tuple[str, str]],
    summary: Summary,
    prompts: Mapping[int, Mapping[str, Any]],
    texts: Mapping[str, Any],
    texts_note: str = "",
) -> str:
    """The whole page.

    What comes from a model reaches it in two ways only: through the template, which escapes, and as JSON in which
    nothing can be taken for a tag. Besides, the page allows no script but its own two, by their digests.

    Args:
        title: of the experiment.
        facts: what else to say about it, with what each is called.
        summary: its figures.
        prompts: index to the text and the references of each that a text goes on from.
        texts: from `Texts.plain`; the row of a text is its method's place in the summary.
        texts_note: what to say about texts that are not shown.

    Raises:
        ConfigurationError: if what draws charts is not installed.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    labels = method_labels(summary)
    names = [*summary.metrics, *summary.costs]
    columns = {name: _column(name) for name in names}
    overview = {
        "metrics": [columns[name] for name in summary.metrics],
        "costs": [columns[name] for name in summary.costs],
        "rows": [
            {
                "label": label,
                "color": color,
                "cells": [_numbers(row.estimates[name]) for name in summary.metrics],
                "costs": [_numbers(row.estimates[name]) for name in summary.costs],
            }
            for row, label, color in zip(summary.rows, labels, colors(labels), strict=True)
        ],
        "prompts": prompts,
        "charts": charts(labels),
    }
    scripts = {"library": library(), "script": _resource("page.js")}
    spans = {name: _span([row.estimates[name] for row in summary.rows]) for name in names}
    page: str = (
        Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        .from_string(_resource("page.html.j2"))
        .render(
            title=title,
            facts=list(facts),
            allowed=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts.values()),
            style=Markup(_resource("page.css")),
            columns=list(columns.values()),
            rows=[
                {
                    "label": label,
                    "color": color,
                    "finished": row.finished,
                    "failed": row.failed,
                    "cells": [_cell(row.estimates[name], spans[name]) for name in names],
                }
                for row, label, color in zip(summary.rows, labels, colors(labels), strict=True)
            ],
            sheets=_sheets(summary),
            notes=list(dict.fromkeys(note for sheet in _means(summary) for note in sheet.notes)),
            count=len(texts["texts"]),
            texts_note=texts_note,
            overview=Markup(embedded(overview)),
            texts=Markup(embedded(texts)),
            **{name: Markup(script) for name, script in scripts.items()},
        )
    )
    return page


def method_labels(summary: Summary) -> list[str]:
    """How each row is called, everywhere on the page; the model is named where there are several."""
    several = len(summary.scores.models) > 1
    return [f"{row.model}: {row.strategy}" if several else row.strategy for row in summary.rows]


def _means(summary: Summary) -> list[Sheet]:
    """Those of the summary's sheets that the page has in its own table: of the metrics, and of the costs."""
    return summary.sheets()[: 1 + bool(summary.costs)]


def _sheets(summary: Summary) -> list[Sheet]:
    """How methods differ: from the baseline, and each from each."""
    wins = [
        sheet for metric in summary.metrics if metric in summary.scores.metrics for sheet in win_sheets(summary, metric)
    ]
    return [*summary.sheets()[len(_means(summary)) :], *wins]


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _column(name: str) -> dict[str, Any]:
    """What is to be known about a metric or a cost."""
    try:
        metric: object = parse(name, "metric")
    except (ConfigurationError, LookupError):
        metric = None  # a cost, or a metric that is not installed here
    return {
        "name": name,
        "unit": getattr(metric, "unit", ""),
        "higher_is_better": higher_is_better(name),
        "of_diversity": getattr(metric, "of_diversity", False),
    }


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": short(estimate.value), "low": short(estimate.low), "high": short(estimate.high)}


def _span(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """From the lowest to the highest that a column's intervals reach."""
    ends = [
        end for each in estimates for end in (each.value, each.low, each.high) if end is not None and math.isfinite(end)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _cell(estimate: Estimate, span: tuple[float, float]) -> dict[str, Any]:
    """A cell of the table; with an interval, also where that lies in a column of width 100."""
    mean, _, interval = shown(estimate).partition(" ")
    count = f"n = {estimate.n} prompts" if estimate.n else ""
    cell: dict[str, Any] = {
        "value": "" if math.isnan(estimate.value) else estimate.value,
        "mean": mean,
        "interval": interval,
    }
    cell["hint"] = "; ".join(filter(None, [count, estimate.reason]))
    cell["places"] = None
    low, high = span
    if estimate.low is not None and estimate.high is not None:
        scale = 96 / (high - low) if high > low else 0.0
        cell["places"] = [round(2 + scale * (each - low), 2) for each in (estimate.low, estimate.value, estimate.high)]
    return cell
