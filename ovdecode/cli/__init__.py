"""The command line: `ovdecode generate`, `compare`, `run`, `report`, `export`, `query`, `list`, `fetch`, `lm-eval`.

Every command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ovdecode.cli.compare import compare
from ovdecode.cli.export import export, query
from ovdecode.cli.failures import Commands
from ovdecode.cli.fetch import fetch
from ovdecode.cli.generate import generate
from ovdecode.cli.list_plugins import list_plugins
from ovdecode.cli.lm_eval import PASSED_ON, lm_eval
from ovdecode.cli.report import report
from ovdecode.cli.run import run

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(compare)
app.command()(run)
app.command()(report)
app.command()(export)
app.command()(query)
app.command(name="list")(list_plugins)
app.command()(fetch)
app.command(context_settings=PASSED_ON)(lm_eval)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ovdecode {version('ovdecode')}, openvino {version('openvino')}")
        raise typer.Exit


@app.callback()
def ovdecode(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions.")
    ] = False,
) -> None:
    """Decode text with many methods, side by side, in one batch."""


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:
        sys.exit("error: standard output is closed; send it somewhere: > /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow encoding must not end a run
    app()
