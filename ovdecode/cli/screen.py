"""A comparison for the eye: texts side by side, then a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ovdecode.cli.console import one_line, printable
from ovdecode.errors import describe

if TYPE_CHECKING:
    from ovdecode.cli.comparison import Comparison, Figures
    from ovdecode.generation import Generation

TEXT_WIDTH = 36
"""Columns that a text needs to be read beside another."""

CAPTION = (
    "Means over prompts and samples. tokens/s: a method's tokens by its seconds while it shares the batch "
    "with all others; alone it is faster. forwards: inferences waited for. log-prob: a token's, under the "
    "model itself, in nats. distinct-2: share of distinct 2-grams. repetition: share of 4-grams that came "
    "before."
)

WIDE_TABLE = 100
"""Columns from which on heads stand in one line."""

METHOD_WIDTH = 20
"""Columns that a spec has at least; figures for which that leaves no room are left out."""

FIGURES_WIDTH = 66
"""Columns that the figures take beside a spec."""

HEADS = ("tokens", "tokens\n/s", "for-\nwards", "log-prob", "dis-\ntinct-2", "repe-\ntition")


def show_texts(comparison: Comparison, screen: Console, prompts: int) -> None:
    """Print the texts of the first prompts: beside each other where there is room, else one by one."""
    across = _across(len(comparison.strategies), screen)
    for number, prompt in enumerate(comparison.prompts[:prompts]):
        heading = Text("\n› ", style="bold magenta").append(printable(prompt), style="bold")
        screen.print(heading, soft_wrap=across == 0)
        cells = [comparison.cell(number, strategy) for strategy in range(len(comparison.strategies))]
        if across == 0:
            for spec, cell in zip(comparison.strategies, cells, strict=True):
                screen.print(Text(f"\n[{spec}]"), soft_wrap=True)
                screen.print(_texts(cell), soft_wrap=True)
            continue
        grid = Table.grid(expand=True)
        for _ in range(across):
            grid.add_column(ratio=1)
        room = screen.width // across - 6
        panels = [_panel(spec, cell, room) for spec, cell in zip(comparison.strategies, cells, strict=True)]
        for start in range(0, len(panels), across):
            grid.add_row(*panels[start : start + across])
        screen.print(grid)
    left = len(comparison.prompts) - prompts
    if left > 0:
        screen.print(f"\n… and the texts of {left} more (--show N prints them, --json FILE keeps them)")


def _across(count: int, screen: Console) -> int:
    """How many texts stand beside each other, in rows as equal as can be; 0 for no panels at all."""
    if not screen.is_terminal:
        return 0
    most = max(screen.width // TEXT_WIDTH, 1)
    return math.ceil(count / math.ceil(count / most))


def _panel(spec: str, cell: list[Generation | None], room: int) -> Panel:
    failed = any(one is not None and one.error is not None for one in cell)
    return Panel(
        _texts(cell),
        title=Text(spec if len(spec) <= room else f"{spec[: room - 1]}…", style="bold red" if failed else "bold cyan"),
        title_align="left",
        subtitle=Text(_ending(cell), style="dim"),
        subtitle_align="right",
        border_style="red" if failed else "dim",
        box=ROUNDED,
    )


def _ending(cell: list[Generation | None]) -> str:
    """How many tokens, and why it ended there, if there is one text only."""
    one = cell[0]
    if len(cell) > 1 or one is None or one.error is not None:
        return ""
    reason = f" · {one_line(str(one.stop_reason))}" if one.stop_reason else ""
    return f"{len(one.tokens)} tokens{reason}"


def _texts(cell: list[Generation | None]) -> Group:
    """The samples of a cell below each other, equal ones once."""
    places: dict[str, list[int]] = {}
    shown: dict[str, Text] = {}
    for sample, one in enumerate(cell, start=1):
        text = _text(one)
        places.setdefault(text.plain, []).append(sample)
        shown.setdefault(text.plain, text)
    if len(cell) == 1:
        return Group(*shown.values())
    parts: list[Text] = []
    for plain, samples in places.items():
        parts.append(Text().append(f"{_ranges(samples)}: ", style="dim").append_text(shown[plain]))
    return Group(*parts)


def _ranges(numbers: list[int]) -> str:
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _text(one: Generation | None) -> Text:
    if one is None:
        return Text("(not finished)", style="dim italic")
    if one.error is not None:
        return Text(f"error: {one_line(describe(one.error))}", style="red")
    text = printable(one.text).strip("\n").removeprefix(" ")  # a word's own space, which would look like an indent
    return Text(text) if text.strip() else Text("(no text)", style="dim italic")


def show_table(comparison: Comparison, screen: Console) -> None:
    """Print the figures of every method, and what they mean."""
    narrow = screen.width < WIDE_TABLE
    breakable = screen.width < max(map(len, comparison.strategies)) + FIGURES_WIDTH
    rows = [list(_row(each, breakable)) for each in comparison.figures]
    heads = HEADS if narrow else [_in_one_line(head) for head in HEADS]
    padding = 1 if narrow else 2
    widths = [
        1 + padding + max(*map(len, head.split("\n")), *(len(row[place]) for row in rows))
        for place, head in enumerate(heads, start=1)
    ]
    room = screen.width - METHOD_WIDTH - 2  # the edges of the box, which has a column between columns besides
    fitting = max(sum(sum(widths[: count + 1]) <= room for count in range(len(widths))), 1)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, padding, 0, 0))
    table.add_column("method", overflow="fold", style="cyan", min_width=METHOD_WIDTH)
    for head in heads[:fitting]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row[: 1 + fitting])
    screen.print(table)
    own = list(_own_figures(comparison))
    for line in own:
        screen.print(line)
    if own:
        screen.print()
    screen.print(_caption(comparison), soft_wrap=not screen.is_terminal)
    if fitting < len(HEADS):
        missing = ", ".join(map(_in_one_line, HEADS[fitting:]))
        screen.print(Text(f"Left out on a narrow screen: {missing}.", style="dim"))


def _in_one_line(head: str) -> str:
    return head.replace("-\n", "").replace("\n", "")


def _row(each: Figures, breakable: bool) -> Iterator[Text]:
    name = Text(each.strategy.replace(",", ", ") if breakable else each.strategy)  # a line breaks at spaces
    if each.failed:
        name.append(f"  {each.failed} of {each.finished} failed", style="red")
    yield name
    yield Text(_number(each.tokens, ".0f"))
    yield Text(_number(each.tokens_per_second, ".1f"))
    yield Text(_number(each.forwards, ".1f"))
    yield Text(_number(each.mean_logprob, ".2f"))
    yield Text(_number(each.distinct_2, ".2f"))
    yield Text(_number(each.repetition, ".2f"))


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _own_figures(comparison: Comparison) -> Iterator[Text]:
    """What methods say about themselves."""
    for each in comparison.figures:
        if each.info:
            said = ", ".join(f"{one_line(name)} {value:.3g}" for name, value in each.info.items())
            yield Text(each.strategy, style="cyan").append(f": {said}", style="default")


def _caption(comparison: Comparison) -> Text:
    batch, model = comparison.batch, comparison.model
    count = len(batch.generations)
    whole = f"{count}" if count == comparison.expected else f"{count} of {comparison.expected}"
    rate = comparison.tokens / batch.seconds if batch.seconds else 0.0
    text = Text()
    total = f"{comparison.tokens:,} tokens in {batch.seconds:.1f} s"
    if not batch.interrupted:  # what unfinished ones had generated is not known
        total += f" = {rate:.0f} tokens/s"
    noun = "generation" if whole == "1" else "generations"
    text.append(f"All together: {whole} {noun}, {total}", style="bold")
    text.append(f" ({printable(model.name)}, {model.runner.name}, {model.runner.precision})\n")
    return text.append(CAPTION, style="dim")
