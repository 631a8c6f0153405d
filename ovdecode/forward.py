"""The one request that a strategy makes, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.plugin import is_whole
from ovdecode.sequence import Sequence

if TYPE_CHECKING:
    from ovdecode.model import Model

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """Ask a model for the next-token logits of a sequence.

    `yield sequence` is short for `yield Forward(sequence)`; a list of requests gets a list of answers, and all of
    them share one inference. A tree of continuations is the list of its leaves.

    The answer is an array of logits, shape (vocab,), read-only; with `last`, shape (last, vocab). If `hidden`,
    `layers` or `choose_layers` is given, the answer is an `Answer` that carries them too.

    Args:
        sequence: the tokens so far; at least one.
        last: logits after each of the last this-many tokens (verification of a draft of k tokens wants k + 1).
            0 only brings the sequence into the cache.
        model: another model than the task's own, of the same vocabulary; or a source to load one from.
        hidden: also the hidden state that enters the LM head, shape (last, hidden).
        layers: also the logits that the LM head reads out after these layers (0 is the embedding).
        draft: asks about a sequence that may not come to be, so that what comes before it is not yet decided. A request
            that names a model is always one.
        choose_layers: further `layers`, as a function of how many the model has.
        exit_layer: ask the model as it is without the layers above this one (`Model.truncated`): they are not computed.
            Such a request is one that names a model.
    """

    sequence: Sequence
    last: int | None = None
    model: Model | str | None = None
    hidden: bool = False
    layers: tuple[int, ...] = ()
    draft: bool = False
    choose_layers: Callable[[int], tuple[int, ...]] | None = None
    exit_layer: int | None = None

    def __post_init__(self) -> None:
        if self.last is not None and not (is_whole(self.last) and 0 <= self.last <= self.sequence.length):
            raise ConfigurationError(
                f"`last` must be a whole number from 0 to the sequence's {self.sequence.length}, got {self.last!r}"
            )
        if self.layers != () and not (isinstance(self.layers, tuple) and all(map(is_whole, self.layers))):
            raise ConfigurationError(f"`layers` must be a tuple of whole numbers, got {self.layers!r}")
        if self.sequence.length == 0:
            raise ConfigurationError("`sequence` must have at least one token to be asked about, got an empty one")

    @property
    def rows(self) -> int:
        """How many positions are wanted."""
        return 1 if self.last is None else self.last

    @property
    def own(self) -> bool:
        """Whether it is the task's own model that is asked, all of it."""
        return self.model is None and self.exit_layer is None

    @property
    def decided(self) -> Sequence:
        """The sequence up to the first position that is asked about."""
        return self.sequence if self.rows < 2 else self.sequence[: self.sequence.length - self.rows + 1]

    @property
    def plain(self) -> bool:
        """Whether logits alone are wanted."""
        return not (self.hidden or self.layers or self.choose_layers)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answers to one `Forward`; every array is read-only and stays valid while it is held.

    Attributes:
        logits: next-token logits, shape (rows, vocab).
        logsumexp: log of the sum of their exponentials, shape (rows,): `logits - logsumexp` are log-probabilities.
        hidden: the state that enters the LM head, shape (rows, hidden), if asked for.
        layers: layer number to the logits read out there, shape (rows, vocab), for the layers asked for.
        blocks: of every few neighbouring logits the largest, and the sum of exp(logit - largest of the row), shape
            (rows, 2, blocks), if the runner tells.
        weights: exp(logit - largest of the row), shape (rows, vocab), if the runner tells.
    """

    logits: Logits
    logsumexp: NDArray[np.float32]
    hidden: NDArray[np.float32] | None = None
    layers: dict[int, Logits] | None = None
    blocks: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None
