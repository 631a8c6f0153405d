"""Errors of a command: one line, and an exit code."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from ovdecode.errors import OvdecodeError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + the signal's number."""
BAD_INPUT = 2
"""Exit code for what cannot be done as it was asked."""


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
