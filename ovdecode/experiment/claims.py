"""Who works on what, when several processes share a store."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
except ImportError:  # Windows: processes decode the same cells, and each is counted once
    lockf = None  # type: ignore[assignment]


class Claims:
    """A lock for each cell, which the system itself frees when the process that holds it dies.

    A lock is one byte of a file that stays empty: the byte's number is the cell's key, cut to what a file may be long.
    Without locks, nothing is wrong: a cell that two processes decode is counted once.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, key: str) -> bool:
        """Claim a cell; false if another process has it."""
        if lockf is None:
            return True
        try:
            lockf(self._file, LOCK_EX | LOCK_NB, 1, _byte(key))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks
            return True
        return True

    def release(self, key: str) -> None:
        """Give a cell back."""
        if lockf is not None:
            with suppress(OSError):
                lockf(self._file, LOCK_UN, 1, _byte(key))

    def close(self) -> None:
        """Give all cells back."""
        os.close(self._file)


def _byte(key: str) -> int:
    return int(key[:15], 16)
