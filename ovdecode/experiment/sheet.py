"""Sheets: tables of plain text, and how Markdown, LaTeX and HTML write them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_MARKDOWN = re.compile(r"[\\`*_{}<>|~$&#]|\](?=[(\[:])|(?<=!)\[")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_LIGATURE = re.compile("-(?=-)|,(?=,)")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "–": r"\textendash{}",
    "−": "$-$",
    "∞": r"$\infty$",
    "δ": r"$\delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


@dataclass(frozen=True)
class Sheet:
    """A table to read.

    Attributes:
        title: what it shows.
        head: of each column.
        rows: plain text, as long as `head` each.
        texts: how many columns, from the left, are text; the others are numbers.
        notes: what else is to be known.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    notes: tuple[str, ...] = ()


def to_markdown(sheets: Iterable[Sheet]) -> str:
    """The sheets as GitHub's Markdown."""
    return "\n".join(map(_markdown, sheets))


def _markdown(sheet: Sheet) -> str:
    rule = [":--"] * sheet.texts + ["--:"] * (len(sheet.head) - sheet.texts)
    lines = [_escaped(sheet.head, escape_markdown), rule, *(_escaped(row, escape_markdown) for row in sheet.rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    notes = "".join(f"\n{escape_markdown(note)}\n" for note in sheet.notes)
    return f"**{escape_markdown(sheet.title)}**\n\n{table}{notes}"


def to_latex(sheets: Iterable[Sheet]) -> str:
    r"""The sheets as LaTeX tables with the rules of the package booktabs, which needs `\usepackage[T1]{fontenc}`."""
    return "% \\usepackage{booktabs} \\usepackage[T1]{fontenc} \\usepackage{textcomp}\n" + "\n".join(
        map(_latex, sheets)
    )


def _latex(sheet: Sheet) -> str:
    lines = [_escaped(row, escape_latex) for row in (sheet.head, *sheet.rows)]
    head, *body = (f"  {' & '.join(line)} \\\\\n" for line in lines)
    columns = "l" * sheet.texts + "r" * (len(sheet.head) - sheet.texts)
    caption = " ".join(map(escape_latex, (f"{sheet.title}.", *sheet.notes)))
    return (
        f"\\begin{{table}}\n  \\centering\n  \\caption{{{caption}}}\n  \\begin{{tabular}}{{{columns}}}\n  \\toprule\n"
        f"{head}  \\midrule\n{''.join(body)}  \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n"
    )


def to_html(sheets: Iterable[Sheet]) -> str:
    """The sheets as HTML, in the colours of the page around them."""
    return f"<div>{''.join(map(_html, sheets))}</div>"


def _html(sheet: Sheet) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in sheet.head)
    align = ["left" if column < sheet.texts else "right" for column in range(len(sheet.head))]
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{side}">{html.escape(cell)}</td>' for side, cell in zip(align, row, strict=True)
        )
        + "</tr>"
        for row in sheet.rows
    )
    notes = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in sheet.notes)
    caption = f'<caption style="text-align:left"><b>{html.escape(sheet.title)}</b></caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{notes}"


def _escaped(cells: Iterable[str], escape: Callable[[str], str]) -> list[str]:
    return [escape(cell) for cell in cells]


def escape_markdown(text: str) -> str:
    r"""The text as Markdown shows it, on one line.

    Example:
        >>> print(escape_markdown("a|b *c* top_p [0.1, 0.2]"))
        a\|b \*c\* top\_p [0.1, 0.2]
    """
    return _MARKDOWN.sub(r"\\\g<0>", _CONTROL.sub(" ", text))


def escape_latex(text: str) -> str:
    r"""The text as LaTeX shows it, on one line.

    Example:
        >>> print(escape_latex("beam_sampling: 50% & more"))
        beam\_sampling: 50\% \& more
    """
    plain = "".join(_LATEX.get(character, character) for character in _CONTROL.sub(" ", text))
    apart = _LIGATURE.sub(r"\g<0>{}", plain)
    return f"{{[}}{apart[1:]}" if apart.startswith("[") else apart  # it would be an argument of the row before
