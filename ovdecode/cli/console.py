"""What the commands write to: two consoles, and text of a model made safe for a terminal."""

from __future__ import annotations

import sys
import unicodedata

from rich.console import Console

PIPED_WIDTH = 200
"""Columns of a table that goes into a file or a pipe, where nothing needs to fit a screen."""

_HARMLESS = frozenset("\n\t")


def console(*, stderr: bool = False) -> Console:
    """A console on today's standard output (or error): plain and wide when that is no terminal.

    Nothing given to it is read as markup. Colour follows the terminal and `NO_COLOR`.
    """
    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPED_WIDTH)
    return made


def printable(text: str) -> str:
    r"""The text with everything that steers a terminal made visible; line breaks and tabs stay.

    A model's output is data: an escape sequence in it must not move the cursor, colour the screen or rename
    the window, and a bidirectional override must not reorder what is read.

    Example:
        >>> print(printable("red: \x1b[31m, bell: \x07, reversed: \u202e"))
        red: ␛[31m, bell: ␇, reversed: \u202e
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def one_line(text: str) -> str:
    """The text as one printable line."""
    return printable(" ".join(text.split()))


def fail(message: str) -> None:
    """Print an expected error: one line on standard error."""
    console(stderr=True).print(f"error: {one_line(message)}", style="bold red", soft_wrap=True)


def note(message: str) -> None:
    """Print a remark: one line on standard error."""
    console(stderr=True).print(f"note: {one_line(message)}", style="dim", soft_wrap=True)


def _shown(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in "\u200c\u200d":  # joiners, with which scripts and emoji are spelled: they steer nothing
        return character
    return f"\\u{code:04x}"
