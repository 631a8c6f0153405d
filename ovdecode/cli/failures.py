"""Errors of a command: one line, and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

from typer.core import TyperGroup

from ovdecode.errors import OvdecodeError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + the signal's number."""
FAILED = 1
"""Exit code if what was asked for could be done only in part, or not be shown."""
BAD_INPUT = 2
"""Exit code for what cannot be done as it was asked."""


class Commands(TyperGroup):
    """The commands, with expected errors turned into one line and an exit code."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, to the last byte that it has to say."""
        from ovdecode.cli.console import fail

        try:
            try:
                return super().main(*args, **options)
            finally:
                sys.stdout.flush()
        except OSError as error:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # else Python tries once more to write what is left
            if not isinstance(error, BrokenPipeError):  # whoever closed a pipe knows
                fail(f"it can't go on: {error}")
            sys.exit(FAILED)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        from ovdecode.cli.console import fail

        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if _was_interrupted(error):
                fail("interrupted")
                ctx.exit(INTERRUPTED)
            if not isinstance(error, OvdecodeError):
                raise
            fail(str(error))
            ctx.exit(BAD_INPUT)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: an import that it ends is an ImportError, for one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error is not None
