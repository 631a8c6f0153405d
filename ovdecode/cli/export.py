"""`ovdecode export` and `ovdecode query`: an experiment's results for other programs, and questions about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of an experiment, finished or under way.")]


def export(
    store: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: .csv, .jsonl or .parquet.")],
) -> None:
    """Write every result to a file, a row each: text, tokens, costs and what the metrics say.

    Parquet needs `pip install 'ovdecode[query]'`. Exit code: 0; 2 for bad input.
    """
    from ovdecode.cli.console import note
    from ovdecode.experiment.export import export as write
    from ovdecode.experiment.store import Store

    opened = Store.open(store)
    write(opened, file)
    note(f"{len(opened)} {'result is' if len(opened) == 1 else 'results are'} in {file}")


def query(
    store: Folder,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="About the table `results`; `DESCRIBE results` lists it.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print the answer as CSV.")] = False,
) -> None:
    """Print what a query in DuckDB's SQL says of the results.

    ovdecode query my.store "SELECT strategy, median(length) FROM results GROUP BY strategy"

    Needs `pip install 'ovdecode[query]'`. Exit code: 0; 2 for bad input.
    """
    import csv as writer
    import sys

    from ovdecode.cli.console import console, printable
    from ovdecode.cli.sheets import print_sheets
    from ovdecode.experiment.export import answer
    from ovdecode.experiment.sheet import Sheet
    from ovdecode.experiment.store import Store

    names, rows = answer(Store.open(store), sql)
    if csv:
        table = [names, *rows]
        if sys.stdout.isatty():
            table = [tuple(printable(cell) if isinstance(cell, str) else cell for cell in row) for row in table]
        writer.writer(sys.stdout, lineterminator="\n").writerows(table)
    else:
        shown = tuple(tuple("–" if value is None else str(value) for value in row) for row in rows)
        print_sheets(console(), [Sheet("", names, shown, texts=0)])
