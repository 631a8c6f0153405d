"""What the benchmarks share: options, interleaved rounds, a table on the screen and in a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

import ovdecode as od


def arguments(description: str | None) -> argparse.Namespace:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of an inference (default: 2)")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    return parser.parse_args()


def shuffled_rounds(loops: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every loop, a value a round; each round runs all of them, in an order of its own.

    Whatever else the machine does then meets all of them alike. A first round warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    order = random.Random(0)
    for number in range(rounds + 1):
        for name in order.sample(list(loops), len(loops)):
            taken = loops[name]()
            if number:
                seconds[name].append(taken)
    return seconds


class Table:
    """Rows for the screen and for a file."""

    def __init__(self, title: str, columns: list[str]) -> None:
        self.title, self.columns, self.rows = title, columns, []  # type: ignore[var-annotated]

    def add(self, *values: Any) -> None:
        """Add a row."""
        self.rows.append([value if isinstance(value, str | int) else float(value) for value in values])

    def finish(self, options: argparse.Namespace, model: od.Model | None = None) -> None:
        """Print the table, and write it with the machine's description if a file is named."""
        about = f"{model!r}, {options.threads} threads" if model else f"{options.threads} threads"
        shown = RichTable(title=f"{self.title} ({about})")
        for column in self.columns:
            shown.add_column(column)
        for row in self.rows:
            shown.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
        Console(width=110).print(shown)
        if options.json:
            content = {
                "title": self.title,
                "date": date.today().isoformat(),
                "machine": {
                    "cores": os.cpu_count(),
                    "threads": options.threads,
                    "processor": platform.processor() or platform.machine(),
                    "python": platform.python_version(),
                    **{name: version(name) for name in ("ovdecode", "openvino", "numpy")},
                },
                "model": repr(model) if model else None,
                "columns": self.columns,
                "rows": self.rows,
            }
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
