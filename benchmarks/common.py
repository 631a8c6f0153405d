"""What the benchmarks share: options, interleaved rounds, a table on the screen and in a JSON file."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

import ovdecode as od


def arguments(description: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """The options that every benchmark takes, and more of one's own: name to what `add_argument` takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of an inference (default: 2)")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    return parser.parse_args()


def shuffled_rounds(
    loops: Mapping[str, Callable[[], float]], rounds: int, warm_ups: int = 1, at_most: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of every loop, a value a round; each round runs all of them, in an order of its own.

    Whatever else the machine does then meets all of them alike.

    Args:
        loops: name to a function that does the work and returns its seconds.
        rounds: how many are counted.
        warm_ups: rounds before these, which are not.
        at_most: no further round is begun once those that are counted have taken this many seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    order = random.Random(0)
    begin = time.perf_counter()
    for number in range(-warm_ups, rounds):
        if number == 0:
            begin = time.perf_counter()
        elif number > 0 and time.perf_counter() - begin > at_most:
            break
        for name in order.sample(list(loops), len(loops)):
            taken = loops[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def paired_ratio(one: list[float], other: list[float]) -> float:
    """The median over rounds of one loop's value divided by another's in the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


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
            shown.add_row(*(Text(_shown(value)) for value in row))
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


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
