"""The model runner: an infer request behind one method, and the slow path that is always right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.forward import Answer, Forward

Precision = Literal["fast", "invariant", "exact"]
Pending = Callable[[], list[Answer]]
"""An inference under way; calling it waits for the answers."""


class ModelRunner(ABC):
    """Answers `Forward` requests about any sequences in any order: `forward(requests) -> answers`.

    A runner may keep key/value caches of sequences that are alive, but only as caches: answers never depend on what is
    in them. This base class keeps none and recomputes every prefix. A runner with a cache overrides `submit`, and
    `missing` and `room` to let an engine plan; a test proves its answers equal to this class's.

    Attributes:
        name: the path's name on results, such as `paged`.
        precision: the named precision that runs.
        tolerance: how far logits may lie from recomputing the prefix in f32; 0 where the same bits are promised.
        vocab_size: number of logits in a row.
        context_length: the longest sequence, in tokens; None if there is no limit.
        token_bytes: bytes of cache that the keys and values of one token take; 0 if none are kept.
    """

    name: str = "recompute"
    precision: Precision = "exact"
    tolerance: float = 0.0
    vocab_size: int
    context_length: int | None = None
    token_bytes: int = 0
    incremental: ClassVar[bool] = False
    """Whether asking about an ancestor first leaves less to do, so that long prompts are worth splitting."""

    @abstractmethod
    def recompute(self, tokens: NDArray[np.int64], request: Forward) -> Answer:
        """Answer one request by running all of its tokens, shape (length,), without any cache."""

    def forward(self, requests: Items[Forward]) -> list[Answer]:
        """Answer all requests, in order, in one inference."""
        return self.submit(requests)()

    def prepare(self, requests: Items[Forward]) -> None:  # noqa: B027  (most need not)
        """Make, before they are submitted, what these requests need and none before them did, such as a graph that
        outputs hidden states. No task is charged for the seconds that it takes."""

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start answering; other runners may be started before the answers are waited for.

        Requests in one call are about distinct sequences, but one may be asked about plainly and for more. The answers
        must be waited for before the next call.
        """
        return lambda: [self.recompute(request.sequence.tokens, request) for request in requests]

    def missing(self, request: Forward) -> int:
        """How many tokens of the sequence would have to be computed now."""
        return request.sequence.length

    def room(self, requests: Items[Forward]) -> int:
        """How many of these requests, in order, can be answered by one inference."""
        return len(requests)

    @property
    def tested(self) -> bool:
        """Whether the self-test is known to hold, so that it need not be done again."""
        return False

    def note_tested(self) -> None:  # noqa: B027  (most can't)
        """Remember, if this runner can, that the self-test held."""

    @property
    def num_layers(self) -> int:
        """How many layers the model has: those from 0 to one below can be asked for.

        Raises:
            ConfigurationError: if this runner reads out none.
        """
        raise ConfigurationError(f"`layers` can't be asked for: the runner `{self.name}` reads out none")

    def truncated(self, layer: int) -> ModelRunner:
        """A runner like this one, with a cache of its own, of the model without the layers above one of them.

        Args:
            layer: the last that stays; the LM head reads what it leaves.

        Raises:
            ConfigurationError: if this runner can't, or there is no such layer.
        """
        raise ConfigurationError(f"`layer` can't be the last: the runner `{self.name}` has no layers to leave out")

    @property
    def cache_in_use(self) -> int:
        """Units of cache (pages or rows) that living sequences hold; 0 once all are gone."""
        return 0

    @property
    def cache_bytes(self) -> int:
        """Bytes of cache that living sequences hold."""
        return 0
