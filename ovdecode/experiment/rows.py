"""Files of text, JSON lines or comma-separated values, row by row; every error names its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ovdecode.errors import PromptError

FIELDS = ("prompt", "question", "text", "turns")
"""The fields that may hold a prompt, if none is named; the first that is there counts, of a list its first entry."""

LONGEST = 4_000_000
"""Characters of a prompt: more than any context holds, so that a file of another kind is refused at once."""

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
Row = tuple[str, dict[str, Any]]
"""Where a prompt was found, for messages, and the fields there."""


def read_rows(file: Path) -> list[Row]:
    """Every line of a file that is not blank: where it is, and its fields; a line of plain text has one, `text`.

    Args:
        file: says by its suffix what it holds: JSON objects, rows of a table, or text.

    Raises:
        PromptError: if it is missing, empty, not UTF-8 or not what its suffix says.
    """
    rows = list(_table(file) if file.suffix in _SEPARATORS else _lines(file))
    if not rows:
        raise PromptError(f"`{file}` must hold at least one prompt, but it is empty")
    return rows


def read_lines(file: Path) -> list[str]:
    """The lines of a text file, without a byte-order mark and without what follows the last line break.

    Raises:
        PromptError: if it is missing or not UTF-8.
    """
    # Not `splitlines`, which also breaks at characters that a line of JSON may hold.
    lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    return lines if lines[-1] else lines[:-1]


def read_text(file: Path) -> str:
    """A text file, without a byte-order mark.

    Raises:
        PromptError: if it is missing or not UTF-8.
    """
    if not file.is_file():
        raise PromptError(f"`prompts` must name a file, but `{file}` is none; check the path")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PromptError(f"`prompts` must name a file that can be read, but `{file}` is not: {error}") from error
    return decode(data, f"`{file}`").removeprefix("\ufeff")


def decode(data: bytes, where: str) -> str:
    """Bytes as text.

    Raises:
        PromptError: if they are not UTF-8; the message names the line.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PromptError(
            f"{where} must be UTF-8 text, but line {line} holds the byte 0x{data[error.start]:02x}; "
            "convert it first, say with `iconv -t utf-8`"
        ) from error


def prompt_field(values: Mapping[str, Any], where: str, field: str | None = None) -> str:
    """The name of the field that holds the prompt.

    Raises:
        PromptError: if there is none.
    """
    wanted = FIELDS if field is None else (field,)
    for name in wanted:
        if name in values:
            return name
    hint = "name one with `field`" if field is None else "check `field`"
    raise PromptError(
        f"{where} must have the field {' or '.join(f'`{name}`' for name in wanted)}, but it has "
        f"{', '.join(f'`{name}`' for name in values) or 'none'}; {hint}"
    )


def prompt_text(value: Any, name: str, where: str) -> str:
    """A field as a prompt; of a list, its first entry.

    Raises:
        PromptError: if it is no text, empty, too long, or not to be written as UTF-8.
    """
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        raise PromptError(f"`{name}` in {where} must be a text that is not empty, but it is {value!r:.60}")
    if len(value) > LONGEST:
        raise PromptError(
            f"`{name}` in {where} must have at most {LONGEST:,} characters, but it has {len(value):,}; "
            "shorten it, or leave it out with `lines`"
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"`{name}` in {where} must be text, but it holds half a surrogate pair: {error}"
            ) from error
    return value


def _lines(file: Path) -> Iterator[Row]:
    objects = file.suffix in _JSON_LINES
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            where = f"line {number} of `{file}`"
            yield where, _object(line, where) if objects else {"text": line}


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{where} must be a JSON object, but it is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise PromptError(f"{where} must be a JSON object, but it is {type(values).__name__}")
    return values


def _table(file: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""), delimiter=_SEPARATORS[file.suffix], strict=True)
    try:
        for values in reader:
            where = f"line {reader.line_num} of `{file}`"
            if None in values or None in values.values():
                names = ", ".join(f"`{name}`" for name in reader.fieldnames or ())
                raise PromptError(
                    f"{where} must have a value for each of {names}, "
                    "but it has more or fewer; put quotes around a value that holds a separator"
                )
            yield where, dict(values)
    except csv.Error as error:
        raise PromptError(
            f"line {reader.line_num} of `{file}` must be a row of comma-separated values, but: {error}"
        ) from error
