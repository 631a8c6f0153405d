"""Tables of a summary on a screen."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovdecode.cli.console import one_line
from ovdecode.experiment.sheet import Sheet


def print_sheets(screen: Console, sheets: Iterable[Sheet]) -> None:
    """Print sheets one below the other, each with its title and its notes."""
    for sheet in sheets:
        if sheet.title:
            screen.print(one_line(sheet.title), style="bold", soft_wrap=True)
        screen.print(_table(sheet))
        for remark in sheet.notes:
            screen.print(one_line(remark), style="dim", soft_wrap=not screen.is_terminal)
        screen.print()


def _table(sheet: Sheet) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, head in enumerate(sheet.head):
        text = column < sheet.texts
        justify = "left" if text else "right"
        table.add_column(Text(one_line(head)), justify=justify, overflow="fold", style="cyan" if text else None)  # type: ignore[arg-type]
    for row in sheet.rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
