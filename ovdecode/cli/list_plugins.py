"""`ovdecode list`: every plugin with its parameters and its source."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ovdecode.cli.console import console, one_line, printable
from ovdecode.cli.options import Plugins, load_plugins
from ovdecode.errors import ConfigurationError

if TYPE_CHECKING:
    from ovdecode.plugin import Plugin

TABLE_WIDTH = 150
"""Columns from which on a plugin is shown in one line of a terminal."""

LONGEST_SOURCE = 64

_PLURAL = {
    "strategy": "Strategies",
    "processor": "Processors",
    "stopping": "Stopping criteria",
    "proposer": "Proposers (for speculative)",
    "utility": "Utilities (for mbr)",
    "metric": "Metrics",
}


def list_plugins(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="[FAMILY|NAME]",
            help="strategy, processor, stopping, proposer, utility, metric, or a plugin.",
        ),
    ] = None,
    plugin: Plugins = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print tables of name, summary and source, as in the README.")
    ] = False,
) -> None:
    """List every plugin with its parameters, their defaults, and its source; or describe one plugin in full.

    A parameter shown as `p=…` must be given; one shown as `p=a|b` is a by default, and may be b. Every strategy also
    takes processors=(NAME:…|NAME:…).
    """
    from ovdecode.registry import GROUPS, aliases, broken, names, unknown

    load_plugins(plugin)
    screen = console()
    wanted = None if family is None else _family(family, GROUPS)
    found = [kind for kind in GROUPS if wanted is None and family in names(kind)]
    if family is not None and wanted is None:
        if not found:
            known = {*GROUPS, *(name for kind in GROUPS for name in names(kind))}
            called = {alias: name for kind in GROUPS for alias, name in aliases(kind).items()}
            raise unknown("family or plugin", family, known, called)
        if markdown:
            raise ConfigurationError(f"`--markdown` must come without a plugin or with a family, got `{family}`")
        for kind in found:
            _describe(kind, family, screen)
        return
    for kind in GROUPS if wanted is None else [wanted]:
        if markdown:
            print(_markdown(kind))
            continue
        _show_family(kind, screen)
        for name, error in broken(kind).items():
            said = f"  {printable(name)} does not load: {one_line(repr(error))}"
            screen.print(said, style="red", soft_wrap=True)
        screen.print()
    if screen.is_terminal:
        hint = "p=… must be given; p=a|b is a, or b. Every strategy takes processors=(…|…). In full: ovdecode list NAME"
        screen.print(hint, style="dim")


def _family(text: str, known: Any) -> str | None:
    """A family by its name, or by the name of its entry-point group."""
    groups = {family: group.rpartition(".")[2] for family, group in known.items()}
    return next((family for family, group in groups.items() if text in (family, group)), None)


def _show_family(family: str, screen: Console) -> None:
    from ovdecode.registry import lookup, names

    screen.print(_PLURAL.get(family, family), style="bold")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in names(family):
        plugin = lookup(family, name)
        call, parameters = (
            Text(f"  {name}", style="bold cyan"),
            Text(", ".join(_parameters(plugin)), style="green"),
        )
        summary, origin = one_line(summary_of(plugin)), one_line(source_of(plugin))
        if screen.is_terminal and screen.width >= TABLE_WIDTH:
            table.add_row(call, parameters, summary, Text(origin, style="dim"))
            continue
        screen.print(
            call + Text("  ") + parameters,
            soft_wrap=not screen.is_terminal,
            end="\n" if screen.is_terminal else "  ",
        )
        about = Text(summary).append(f"  [{origin}]" if origin else "", style="dim")
        screen.print(Padding(about, (0, 0, 0, 4)) if screen.is_terminal else about, soft_wrap=not screen.is_terminal)
    if table.rows:
        screen.print(table)


def _markdown(family: str) -> str:
    """A family's table in Markdown."""
    from ovdecode.registry import lookup, names

    plugins = [(name, lookup(family, name)) for name in names(family)]
    rows = [f"| `{name}` | {_cell(summary_of(plugin))} | {_cell(source_of(plugin))} |" for name, plugin in plugins]
    return "\n".join(
        [f"### {_PLURAL.get(family, family)}", "", "| name | what it is | source |", "|---|---|---|", *rows, ""]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _describe(family: str, name: str, screen: Console) -> None:
    from ovdecode.registry import lookup

    plugin = lookup(family, name)
    screen.print(Text(f"{name} ", style="bold cyan").append(f"({family})", style="dim"))
    for parameter in _parameters(plugin):
        screen.print(Text(f"  {parameter}", style="green"))
    screen.print()
    screen.print(Text(printable("\n".join([inspect.getdoc(plugin) or "", *_inherited(plugin)]))))
    file = inspect.getsourcefile(plugin)
    if file:
        screen.print(Text(f"\n{Path(file)}", style="dim"), soft_wrap=True)


def _inherited(plugin: type[Plugin]) -> list[str]:
    """What base classes say about parameters that the plugin's own docstring leaves to them, under a heading."""
    found: dict[str, str] = {}
    for base in plugin.__mro__:
        arguments = re.search(r"^Args:\n((?: .*\n?|\n)*)", inspect.cleandoc(base.__dict__.get("__doc__") or ""), re.M)
        for entry in re.split(r"^(?=    \w)", arguments[1] if arguments else "", flags=re.M):
            found.setdefault(entry.partition(":")[0].strip(), entry.rstrip() if base is not plugin else "")
    entries = [entry for entry in found.values() if entry]
    return ["", "Args, as of its base classes:", *entries] if entries else []


def summary_of(plugin: type[Plugin]) -> str:
    """What a plugin's docstring says first: its first line, to the end of the sentence."""
    doc = plugin.__dict__.get("__doc__") or ""
    if doc.startswith(f"{plugin.__name__}("):  # what dataclasses write where nobody else did
        return ""
    first = re.split(r"\n\s*\n|\n\w+:", inspect.cleandoc(doc))[0]
    return " ".join(first.split())


def source_of(plugin: type[Plugin]) -> str:
    """Author and year: what a docstring's "Source:" says first, up to its year if there is one, and no bracket open."""
    doc = inspect.cleandoc(plugin.__doc__ or "")
    match = re.search(r"^Sources?:\s*(.+?)(?:\n\s*\n|\n\w+:|\Z)", doc, re.S | re.M)
    if match is None:
        return ""
    said = " ".join(match[1].split())
    clause = re.split(r";|(?<!\bal)(?<!\b[A-Z])\.(?:\s|$)", said)[0]
    dated = re.match(r".*?\b((?:19|20)\d\d)\b", clause)
    if dated is None:
        return textwrap.shorten(re.split(r"[,(]", clause)[0], LONGEST_SOURCE, placeholder=" …")
    short = dated[0]
    if short.count("(") > short.count(")"):
        short += clause[dated.end() :].partition(")")[0] + ")"
    return short if len(short) <= LONGEST_SOURCE else f"{short.partition(',')[0]} et al. {dated[1]}"


def _parameters(plugin: type[Plugin]) -> Iterator[str]:
    """Each parameter as a spec string has it, the default before its alternatives; those of all strategies left out."""
    from ovdecode.plugin import type_hints
    from ovdecode.spec import format_value, parameters

    defaults, hints = parameters(plugin), type_hints(plugin)
    for field in dataclasses.fields(plugin):
        common = field.name == "processors" and field.kw_only
        if not field.init or common:
            continue
        values = [defaults[field.name], *_alternatives(hints.get(field.name))]
        shown = ["…" if value is dataclasses.MISSING else format_value(value) for value in values]
        yield f"{field.name}={'|'.join(dict.fromkeys(shown))}"


def _alternatives(hint: Any) -> list[Any]:
    """All that a parameter of a few words may be; nothing for any other."""
    parts = [hint] if get_origin(hint) is Literal else [*get_args(hint)]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    return [*([False, True] if words and bool in parts else []), *words]
