"""Where prompts come from: the command line, standard input, a file, or a few that tell much."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ovdecode.errors import PromptError

FIELDS = ("prompt", "question", "text", "turns")
"""The fields of a `.jsonl` line that may hold its prompt; the first that is there counts, of a list its first
entry."""

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
    if prompt not in (None, "-"):
        return prompt or ""
    if prompt is None and sys.stdin.isatty():
        raise PromptError('`PROMPT` must be given, or come through a pipe: ovdecode generate "Once upon a time"')
    text = _decode(sys.stdin.buffer.read(), "standard input")
    return text.removesuffix("\n").removesuffix("\r")


def read_prompts(file: Path, field: str | None = None) -> list[str]:
    """The prompts of a file: its lines, or a field of each object of a `.jsonl` file; not the blank ones.

    Raises:
        PromptError: if the file is missing, empty, not UTF-8 or not JSON lines, or lacks the field.
    """
    if not file.is_file():
        raise PromptError(f"`--prompts` must name a file, but `{file}` is none; check the path")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PromptError(f"`--prompts` must name a file that can be read, but `{file}` is not: {error}") from error
    jsonl = file.suffix in (".jsonl", ".ndjson")
    if field is not None and not jsonl:
        raise PromptError(f"`--field` is for .jsonl files, but `{file}` is read as text, a prompt a line; leave it out")
    # Not `splitlines`, which also breaks at characters that a line of JSON may hold.
    lines = [line.removesuffix("\r") for line in _decode(data, f"`{file}`").removeprefix("\ufeff").split("\n")]
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        raise PromptError(f"`{file}` must hold at least one prompt, but it is empty")
    if not jsonl:
        return [line for _, line in filled]
    return [_prompt_of(line, field, f"line {number} of `{file}`") for number, line in filled]


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PromptError(
            f"{where} must be UTF-8 text, but line {line} holds the byte 0x{data[error.start]:02x}; "
            "convert it first, say with `iconv -t utf-8`"
        ) from error


def _prompt_of(line: str, field: str | None, where: str) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{where} must be a JSON object, but it is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise PromptError(f"{where} must be a JSON object, but it is {type(record).__name__}")
    wanted = FIELDS if field is None else (field,)
    for name in wanted:
        if name in record:
            return _text(record[name], name, where)
    hint = "name one with --field" if field is None else "check --field"
    raise PromptError(
        f"{where} must have the field {' or '.join(f'`{name}`' for name in wanted)}, but it has "
        f"{', '.join(f'`{name}`' for name in record) or 'none'}; {hint}"
    )


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str) or not value:
        raise PromptError(f"`{name}` in {where} must be a text that is not empty, but it is {value!r:.60}")
    return value
