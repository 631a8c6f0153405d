"""Candidates whose weights take long to make, and that can mostly be drawn from without them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from ovdecode.candidates import Candidates
from ovdecode.numerics import Floats


class Deferred(Candidates, ABC):
    """The same tokens as others, with weights that are made when somebody asks for them.

    Subclass it and write `make`; and `draw`, with exactly the law of these weights, or nothing is gained.

    Args:
        before: whose tokens these are.

    Raises:
        DeadEnd, LogitsError: as `before.peak` does.
    """

    def __init__(self, before: Candidates) -> None:
        super().__init__(None, None if before.dense else before.ids)
        del self._weights  # until they are made
        before.peak  # noqa: B018  raises if there is no distribution
        self.before = before

    @abstractmethod
    def make(self) -> Floats:
        """The weights: proportional to the probabilities, shape (n,), of the type of the logits before."""

    @cached_property
    def _weights(self) -> Floats:  # type: ignore[override]
        return self.make()

    def __len__(self) -> int:
        return len(self.before)
