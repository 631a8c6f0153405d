"""The default runner: pages of the cache follow the token tree, and all sequences share one ragged batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import PrecisionError
from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import Precision
from ovdecode.runners.lane import Lane
from ovdecode.runners.laned import LanedRunner
from ovdecode.runners.model_file import ModelSource
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.vocabulary import Vocabulary


class PagedRunner(LanedRunner[Lane]):
    """Paged attention on OpenVINO: prefill, decode and verification of many sequences in one inference.

    A sequence's pages are shared by all its descendants and copied when two of them write after the same token;
    taking tokens back is asking about an ancestor.

    In `invariant` and `exact`, logits have the same bits whatever the batch, the chunking and the history.

    Args:
        model: a stateful language model, which is not changed, or the file of one.
        device: where to compile it.
        precision: `fast`, `invariant` or `exact`.
        properties: further OpenVINO properties for compiling.
        cache_bytes: bound on the cache; memory is only taken as pages are used.
        context_length: the longest sequence, in tokens.

    Raises:
        PagingUnsupported: this model or this OpenVINO can't be paged.
        PrecisionError: if the properties contradict the precision; later, where hidden states are asked for, if the
            graph that outputs them has other logits.
        ConfigurationError: if the cache is too small.
    """

    name = "paged"

    def __init__(
        self,
        model: ModelSource,
        device: str = "CPU",
        precision: Precision = "fast",
        properties: Mapping[str, Any] | None = None,
        *,
        cache_bytes: int = 4 << 30,
        context_length: int | None = None,
    ) -> None:
        self.tolerance = 1.5 if precision == "fast" else 0.0
        self._options, self._cache_bytes = (device, precision, properties or {}), cache_bytes
        super().__init__(model, precision, context_length)
        graph = self._lanes[False].graph
        self.vocab_size, self.token_bytes = graph.vocab_size, graph.memory.page_bytes // graph.memory.page_size

    def recompute(self, tokens: NDArray[np.int64], request: Forward) -> Answer:
        """Answer on a tree of its own, which shares nothing with any sequence in the cache."""
        sequence = Vocabulary(self.vocab_size).prompt(tokens.tolist())
        return self.forward([Forward(sequence, request.rows, None, request.hidden, request.layers)])[0]

    @property
    def tested(self) -> bool:
        """Whether the self-test held before with this model, compiled like this on this machine."""
        prepared = self._lanes[False].graph.prepared
        return prepared is not None and prepared.tested

    def note_tested(self) -> None:
        """Remember that the self-test held."""
        prepared = self._lanes[False].graph.prepared
        if prepared is not None:
            prepared.note_tested()

    @property
    def cache_bytes(self) -> int:
        """Bytes in the pages that living sequences hold."""
        return sum(lane.in_use * lane.graph.memory.page_bytes for lane in self._lanes.values())

    def _like(self, model: ModelSource) -> PagedRunner:
        return PagedRunner(model, *self._options, cache_bytes=self._cache_bytes, context_length=self.context_length)

    def _lane(self, hidden: bool) -> Lane:
        lane = Lane(PagedGraph(self._model, *self._options, cache_bytes=self._cache_bytes, hidden=hidden))
        if hidden and self.precision != "fast":
            self._check_alike(lane)
        return lane

    def _check_alike(self, rich: Lane) -> None:
        """Make sure that logits have the same bits on the graph that also outputs hidden states."""
        sequence = Vocabulary(self.vocab_size).prompt(range(1, 4))
        (plain,) = self._lanes[False].submit([Forward(sequence, 3)])()
        (other,) = rich.submit([Forward(sequence, 3, hidden=True)])()
        if plain.logits.tobytes() != other.logits.tobytes():
            raise PrecisionError(
                f"precision={self.precision!r} must give the same logits with hidden states and without, but on this "
                "device it does not; use precision='fast' for methods that ask for hidden states"
            )
