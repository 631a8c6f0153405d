"""The default runner: pages of the cache follow the token tree, and all sequences share one ragged batch."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import ModelRunner, Pending, Precision
from ovdecode.runners.lane import Lane
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.runners.residual import residual_stream
from ovdecode.vocabulary import Vocabulary

if TYPE_CHECKING:
    import openvino as ov


class PagedRunner(ModelRunner):
    """Paged attention on OpenVINO: prefill, decode and verification of many sequences in one inference.

    A sequence's pages are shared by all its descendants and copied when two of them write after the same token;
    taking tokens back is asking about an ancestor. Requests for hidden states run on a graph and a cache of their own,
    so that they change nobody else's bits.

    In `invariant` and `exact`, logits have the same bits whatever the batch, the chunking and the history.

    Args:
        model: a stateful language model; it is not changed.
        device: where to compile it.
        precision: `fast`, `invariant` or `exact`.
        properties: further OpenVINO properties for compiling.
        cache_bytes: bound on the cache; memory is only taken as pages are used.
        context_length: the longest sequence, in tokens.

    Raises:
        PagingUnsupported: this model or this OpenVINO can't be paged.
    """

    name = "paged"
    incremental: ClassVar[bool] = True

    def __init__(
        self,
        model: ov.Model,
        device: str = "CPU",
        precision: Precision = "fast",
        properties: Mapping[str, Any] | None = None,
        *,
        cache_bytes: int = 4 << 30,
        context_length: int | None = None,
    ) -> None:
        self.precision, self.context_length = precision, context_length
        self.tolerance = 1.5 if precision == "fast" else 0.0
        self._model, self._cache_bytes = model, cache_bytes
        self._options = (device, precision, properties or {})
        self._lanes = {False: self._lane(hidden=False)}
        self.vocab_size = self._lanes[False].graph.vocab_size

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start one inference for all plain requests, and one for all that want hidden states."""
        self._check(requests)
        pending = []
        for rich in (False, True):
            places = [place for place, request in enumerate(requests) if request.plain is not rich]
            if places:
                if rich not in self._lanes:
                    self._lanes[rich] = self._lane(hidden=rich)
                pending.append((places, self._lanes[rich].submit([requests[place] for place in places])))

        def answers() -> list[Answer]:
            found = {place: answer for places, wait in pending for place, answer in zip(places, wait(), strict=True)}
            return [found[place] for place in range(len(requests))]

        return answers

    def recompute(self, tokens: NDArray[np.int64], request: Forward) -> Answer:
        """Answer on a tree of its own, which shares nothing with any sequence in the cache."""
        sequence = Vocabulary(self.vocab_size).prompt(tokens.tolist())
        return self.forward([Forward(sequence, request.rows, None, request.hidden, request.layers)])[0]

    def missing(self, request: Forward) -> int:
        """How many tokens are not in the cache."""
        lane = self._lanes.get(not request.plain)
        return request.sequence.length if lane is None else lane.missing(request)

    def room(self, requests: Items[Forward]) -> int:
        """How many of these the cache can hold together."""
        count = len(requests)
        for rich, lane in self._lanes.items():
            places = [place for place, request in enumerate(requests) if request.plain is not rich]
            fit = lane.fits([requests[place] for place in places])
            count = min(count, places[fit] if fit < len(places) else count)
        return count

    @property
    def cache_in_use(self) -> int:
        """Pages that hold keys and values of living sequences."""
        return sum(lane.in_use for lane in self._lanes.values())

    @property
    def cache_bytes(self) -> int:
        """Bytes in those pages."""
        return sum(lane.in_use * lane.graph.page_bytes for lane in self._lanes.values())

    def _lane(self, hidden: bool) -> Lane:
        graph = PagedGraph(self._model, *self._options, cache_bytes=self._cache_bytes, hidden=hidden)
        return Lane(graph, at_least=1 if self.precision == "fast" else 2)

    def _check(self, requests: Items[Forward]) -> None:
        for request in requests:
            if request.sequence.vocabulary.size > self.vocab_size:
                raise ConfigurationError(
                    f"`model` must have the tokens of the sequence: it has {self.vocab_size}, the sequence's "
                    f"vocabulary has {request.sequence.vocabulary.size}"
                )
            if request.layers and not set(request.layers) <= set(range(self._layers + 1)):
                raise ConfigurationError(f"`layers` must be from 0 to {self._layers}, got {request.layers}")

    @cached_property
    def _layers(self) -> int:
        return len(residual_stream(self._model)) - 1
