"""How many tokens an inference has: kept from one to the next, where that costs less than a change."""

from __future__ import annotations

CHANGE, STEP = 12, 8
"""A graph that is given another number of tokens looks at the shapes of all its nodes again. That takes as long as
computing about 12 more (measured: 4 ms, of 8 for one token and 23 for 32). Where more are needed, more than that often
follow: so it is prepared for a multiple of 8."""


class Steady:
    """Says to how many tokens an inference is to be filled up.

    What is filled up between two changes never costs much more than a change, and a number that is needed again and
    again is soon kept to.

    Args:
        most: never more than this, unless more are needed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = self._needed = self._filled = 0

    def __call__(self, tokens: int) -> int:
        """The number for an inference that has so many of its own."""
        more = tokens - self._size
        self._needed = max(self._needed, tokens)
        self._filled -= more
        if abs(more) > CHANGE:
            self._size = tokens
        elif more > 0:
            self._size = max(tokens, min(-(-tokens // STEP) * STEP, self._most))
        elif self._filled > CHANGE:
            self._size = self._needed
        else:
            return self._size
        self._needed = self._filled = 0
        return self._size
