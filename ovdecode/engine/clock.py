"""What tasks are charged by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """Seconds of decoding. It stands still while a model is loaded or compiled: that happens once, in the midst of
    whichever tasks happen to run, and says nothing of them."""

    def __init__(self) -> None:
        self._stood = 0.0

    def now(self) -> float:
        """Seconds since some moment."""
        return perf_counter() - self._stood

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It stands still inside."""
        began = perf_counter()
        try:
            yield
        finally:
            self._stood += perf_counter() - began
