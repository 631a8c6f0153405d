"""The charts of the report, as Vega-Lite; the page fills in the data, and what each axis shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from functools import cache
from typing import Any

from ovdecode.extras import from_extra

COLORS = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#a08a00", "#7a5195"),
    *("#6b6b6b", "#8c564b", "#2f9e9e", "#b23a48", "#5b8c2a", "#3d5a98", "#c27ba0", "#9a6324"),
)
"""One a method, in turn; the first are those of Okabe and Ito, which most eyes tell apart."""


def colors(methods: Items[str]) -> list[str]:
    """The colour of each method."""
    return [COLORS[index % len(COLORS)] for index in range(len(methods))]


def charts(methods: Items[str]) -> dict[str, Mapping[str, Any]]:
    """The specs, by name. `@x` and `@y` in them stand for the titles of the axes, `@left`,
    `@right`, `@low` and `@high` for what the first chart reaches to.

    Raises:
        ConfigurationError: if Altair can't be imported.
    """
    alt = from_extra("report", "altair", "a report")
    domain = alt.Scale(domain=list(methods), range=colors(methods))
    color = alt.Color("method:N", scale=domain, legend=None)
    rows, texts = alt.Data(name="rows"), alt.Data(name="texts")

    hint = [
        "method:N",
        *(alt.Tooltip(f"{name}:Q", format=".4g") for name in ("x", "xlow", "xhigh", "y", "ylow", "yhigh")),
    ]
    across = alt.Scale(domain=["@left", "@right"], nice=False, zero=False)
    up = alt.Scale(domain=["@low", "@high"], nice=False, zero=False)
    x, y = alt.X("x:Q", title="@x", scale=across), alt.Y("y:Q", title="@y", scale=up)
    points = alt.Chart(rows).encode(x=x, y=y, color=color)
    tradeoff = alt.layer(
        points.transform_filter("datum.front")
        .mark_line(strokeDash=[4, 3])
        .encode(color=alt.value("gray"), order="x:Q"),
        points.mark_rule().encode(x=alt.X("xlow:Q", title="@x", scale=across), x2="xhigh:Q"),
        points.mark_rule().encode(y=alt.Y("ylow:Q", title="@y", scale=up), y2="yhigh:Q"),
        points.mark_circle(size=110, opacity=1).encode(tooltip=hint),
        points.mark_text(
            align=alt.ExprRef("datum.side"),
            dx=alt.ExprRef("datum.side === 'left' ? 9 : -9"),
            baseline="middle",
            limit=300,
        ).encode(y=alt.Y("label:Q", title="@y", scale=up), text="text:N"),
    ).properties(width="container", height=380)

    method = alt.Y("method:N", sort=list(methods), title=None, axis=alt.Axis(labelLimit=260))
    distributions = {}
    for name, scale in (
        ("distribution", alt.Scale(zero=False)),
        ("distribution_log", alt.Scale(type="log", nice=False)),
    ):
        values = alt.Chart(texts).encode(x=alt.X("x:Q", title="@x", scale=scale), y=method, color=color)
        distributions[name] = alt.layer(
            values.mark_circle(size=14, opacity=0.35).encode(
                yOffset=alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-1, 2]))
            ),
            values.mark_boxplot(size=10, outliers=False, opacity=0.8, rule={"color": "gray"}),
        ).properties(width="container", height=44 * len(methods))

    bars = alt.Chart(rows).encode(y=method, color=color)
    cost = alt.layer(
        bars.mark_bar(opacity=0.75, height=alt.RelativeBandSize(0.6)).encode(
            x=alt.X("x:Q", title="@x"), tooltip=hint[:4]
        ),
        alt.Chart(rows).mark_rule(strokeWidth=2).encode(y=method, x=alt.X("xlow:Q", title="@x"), x2="xhigh:Q"),
    ).properties(width="container", height=26 * len(methods))

    made = {"tradeoff": tradeoff, "cost": cost, **distributions}
    specs = {name: chart.to_dict() for name, chart in made.items()}
    for spec in specs.values():
        del spec["$schema"]  # an address, which nothing here needs
    return specs


def library() -> str:
    """The script that draws them, to be inlined: Vega, Vega-Lite and Vega-Embed.

    Raises:
        ConfigurationError: if vl-convert can't be imported.
    """
    return _bundle(from_extra("report", "vl_convert", "a report").javascript_bundle)


@cache  # it takes a second to make
def _bundle(make: Callable[[str], str]) -> str:
    return make("window.vegaEmbed = vegaEmbed;")
