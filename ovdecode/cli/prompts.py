"""Where prompts come from on the command line: standard input, a file, or a few that tell much."""

from __future__ import annotations

import sys
from pathlib import Path

from ovdecode.errors import PromptError

BUILT_IN = (
    "Once upon a time, in a village by the sea, there lived",
    "The first person to walk on the moon was",
    "Monday: I eat an apple.\nTuesday: I eat a banana.\nWednesday: I eat",
)
"""An open story, where sampling has room; a fact, on which beam search runs into a loop; and a pattern, which
greedy repeats and of which prompt lookup drafts about every second token rightly."""


def read_standard_input(prompt: str | None) -> str:
    """The prompt, or standard input for `-`, or for none in a pipe; one final line break is left out.

    Raises:
        PromptError: if there is no prompt.
    """
    from ovdecode.experiment.rows import decode

    if prompt not in (None, "-"):
        return prompt or ""
    if prompt is None and sys.stdin.isatty():
        raise PromptError('`PROMPT` must be given, or come through a pipe: ovdecode generate "Once upon a time"')
    text = decode(sys.stdin.buffer.read(), "standard input")
    return text.removesuffix("\n").removesuffix("\r")


def read_prompts(file: Path, field: str | None = None) -> list[str]:
    """The prompts of a file: its lines, or a field of each object or row; not the blank ones.

    Raises:
        PromptError: if the file is missing, empty, not UTF-8 or not what its suffix says, or lacks the field.
    """
    from ovdecode.experiment.rows import prompt_field, prompt_text, read_rows

    found = []
    for where, values in read_rows(file):
        name = prompt_field(values, where, field)
        found.append(prompt_text(values[name], name, where))
    return found
