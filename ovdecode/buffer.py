"""Where the tokens of sequences are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Buffer:
    """Token ids shared by a chain of nodes: appended in place at its end, copied where a chain forks.

    Args:
        array: room for them, shape (capacity,).
        used: how many are there.
    """

    __slots__ = ("array", "used")

    def __init__(self, array: NDArray[np.int64], used: int) -> None:
        self.array, self.used = array, used

    def append(self, length: int, token: int) -> Buffer:
        """Where the first `length` tokens and one more are: here, if none comes after them yet and there is room."""
        if length == self.used and length < len(self.array):
            buffer = self
        else:
            buffer = Buffer(np.empty(max(64, 2 * length), np.int64), length)
            buffer.array[:length] = self.array[:length]
        buffer.array[length] = token
        buffer.used = length + 1
        return buffer

    def view(self, length: int) -> NDArray[np.int64]:
        """The first tokens, shape (length,), read-only."""
        view = self.array[:length]
        view.flags.writeable = False
        return view
