"""Errors as a person wants to read them: one line, and the line of their own code that went wrong."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from ovdecode.errors import OvdecodeError

_PLACE = re.compile(r'^\s*File "(.+)", line (\d+)', re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parent.parent

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + the signal's number."""
BAD_INPUT = 2
"""Exit code for what cannot be done as it was asked."""


def describe(error: BaseException) -> str:
    """What went wrong; for an error that is not one of ovdecode's own, also its kind and its place.

    The place is the last line outside of ovdecode, if there is one: a method's own rather than the library's.
    """
    if isinstance(error, OvdecodeError):
        return str(error)
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    # As text, since an engine keeps the traceback of a failed strategy only as text.
    places = _PLACE.findall("".join(traceback.format_exception(error)))
    outside = [place for place in places if _is_foreign(place[0])]
    if not places:
        return said
    file, line = (outside or places)[-1]
    return f"{said} ({Path(file).name}:{line})"


def _is_foreign(filename: str) -> bool:
    path = Path(filename)
    if filename.startswith("<"):
        return False
    return "site-packages" not in path.parts and _PACKAGE not in path.resolve().parents


class Commands(TyperGroup):
    """The commands, with expected errors turned into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        from ovdecode.cli.console import fail

        try:
            return super().invoke(ctx)
        except OvdecodeError as error:
            fail(str(error))
            ctx.exit(BAD_INPUT)
        except KeyboardInterrupt:
            fail("interrupted")
            ctx.exit(INTERRUPTED)
