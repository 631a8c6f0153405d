"""`ovdecode report`: what an experiment found, as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovdecode.cli.options import Plugins, load_plugins


def report(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of an experiment, finished or under way.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="SPEC", help="Only this, and who wins against whom in it; repeatable."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="SPEC", help="What the others are compared with; the first method."),
    ] = None,
    level: Annotated[float, typer.Option("--level", metavar="L", help="Of the intervals.")] = 0.95,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    latex: Annotated[
        Path | None, typer.Option("--latex", metavar="FILE", help="Write the tables there, as LaTeX.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all numbers there, unrounded.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with everything there, for any browser."),
    ] = None,
    traces: Annotated[
        int,
        typer.Option(
            "--traces",
            metavar="N",
            help="Ask the models again about the first N texts, to show in the page what else was possible; without "
            "--html that is report.html in the store.",
        ),
    ] = 0,
    figures: Annotated[Path | None, typer.Option("--figures", metavar="FOLDER", help="Write figures there.")] = None,
    suffix: Annotated[
        str, typer.Option("--suffix", metavar=".pdf|.svg|.png", help="What kind of files the figures are.")
    ] = ".pdf",
    plugin: Plugins = None,
) -> None:
    """Print every method's figures with their intervals, and how the methods differ from a baseline.

    Nothing is decoded. Exit code: 0; 2 for bad input.
    """
    from ovdecode.cli.console import console, note
    from ovdecode.cli.sheets import print_sheets
    from ovdecode.experiment.figures import write_figures
    from ovdecode.experiment.layout import win_sheets
    from ovdecode.experiment.sheet import to_latex, to_markdown
    from ovdecode.experiment.store import Store
    from ovdecode.experiment.table import summary

    load_plugins(plugin)
    opened = Store.open(store)
    found = summary(opened, metric, baseline=baseline or opened.experiment.strategies[0], level=level)
    asked = [name for name in found.scores.metrics if metric]
    sheets = found.sheets() + [sheet for name in asked for sheet in win_sheets(found, name)]
    if latex is not None:
        _write(latex, to_latex(sheets), "--latex")
    if csv is not None:
        _write(csv, found.to_csv(), "--csv")
    if html is not None or traces:
        from ovdecode.experiment.report import write_report

        note(f"{write_report(opened, html, table=found, traces=traces)} is written; open it in a browser")
    if figures is not None:
        write_figures(found, figures, suffix=suffix)
    if markdown:
        typer.echo(to_markdown(sheets), nl=False)
    else:
        print_sheets(console(), sheets)
    if len(opened) < len(opened.cells):
        note(f"{len(opened)} of {len(opened.cells)} texts are finished; `ovdecode run` on the same store does the rest")
    if opened.damaged:
        note(f"{opened.damaged} lines of the store are damaged and left out; `ovdecode run` does them again")


def _write(file: Path, text: str, option: str) -> None:
    from ovdecode.errors import ConfigurationError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"`{option}` must name a file that can be written, but: {error}") from error
