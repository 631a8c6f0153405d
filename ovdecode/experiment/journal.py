"""Append-only files of checked lines: whoever dies at whatever instant, every whole line stays readable."""

from __future__ import annotations

import json
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from ovdecode.errors import StoreError

SYNC_SECONDS = 10.0
"""How often what was appended is forced onto the disk. A process may die at any instant; only a machine that loses its
power may lose this much."""

_HEAD = b'{"crc":"%08x",'
BODY = len(_HEAD % 0)
"""Where the checked part of a line begins."""


_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)  # Windows would change line breaks


def process_name() -> str:
    """A name that no other process has, here or on another machine, and none had before."""
    return f"{socket.gethostname()[:32]}-{os.getpid()}-{os.urandom(4).hex()}"


class Journal:
    """A file of this process to append JSON objects to, made when the first one comes.

    Args:
        path: of the new file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._synced = monotonic()

    def append(self, values: dict[str, Any]) -> None:
        """Add an object: one write of one line, so that it is there whole, or not at all.

        Raises:
            StoreError: if it can't be written, as on a full disk. What was there before stays; a later `append`
                starts a new file, so that half a line spoils nothing.
        """
        line = encode(values)
        try:
            if self._file is None:
                self._file = os.open(self.path, _APPEND, 0o644)
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if monotonic() - self._synced > SYNC_SECONDS:
                self.sync()
        except OSError as error:
            self._abandon()
            raise StoreError(
                f"`{self.path.parent}` must be a folder with room to write, but: {error}. Everything finished before "
                "is kept; make room and run again"
            ) from error

    def sync(self) -> None:
        """Force what was appended onto the disk."""
        if self._file is not None:
            os.fsync(self._file)
        self._synced = monotonic()

    def close(self) -> None:
        """Force everything onto the disk, and close the file."""
        if self._file is not None:
            self.sync()
            os.close(self._file)
            self._file = None

    def _abandon(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None
        self.path = self.path.with_name(f"{self.path.stem}+{self.path.suffix}")


def encode(values: dict[str, Any]) -> bytes:
    """An object as a line with a checksum, which is a JSON object itself."""
    body = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()[1:] + b"\n"
    return _HEAD % zlib.crc32(body) + body


def is_whole(line: bytes) -> bool:
    """Whether a line is as it was written, to its line break."""
    return line[:BODY] == _HEAD % zlib.crc32(memoryview(line)[BODY:])


def parse(line: bytes) -> dict[str, Any]:
    """The object in a whole line."""
    return _parse(line.decode())[0]  # type: ignore[no-any-return]


_parse = json.JSONDecoder().raw_decode  # in half the time of `loads`, which first looks for encodings and spaces


class Journals:
    """All journals of one kind in a folder, read from where one stopped the last time.

    Args:
        folder: where they are.
        kind: what their names begin with.

    Attributes:
        paths: the files, in the order in which they were met.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.paths: list[Path] = []
        self._ends: list[int] = []
        self._damaged = 0

    def new(self) -> Iterator[tuple[int, int, bytes]]:
        """Every whole line that was appended since the last time: which file, where in it, and the line."""
        for path in sorted(self.folder.glob(f"{self.kind}-*.jsonl")):
            if path not in self.paths and path.is_file():
                self.paths.append(path)
                self._ends.append(0)
        for number, path in enumerate(self.paths):
            offset = self._ends[number]
            if path.stat().st_size == offset:
                continue
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    if is_whole(line):
                        yield number, offset, line
                    else:
                        self._damaged += 1
                    offset += len(line)
                    self._ends[number] = offset

    @property
    def damaged(self) -> int:
        """How many lines are torn or changed, and so ignored."""
        torn = sum(path.stat().st_size > end for path, end in zip(self.paths, self._ends, strict=True))
        return self._damaged + torn
