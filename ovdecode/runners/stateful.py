"""The runner for public API only: one row of the model's state for each sequence, moved by `beam_idx`."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import PrecisionError
from ovdecode.forward import Answer, Forward
from ovdecode.plugin import one_of
from ovdecode.runners.base import Pending, Precision
from ovdecode.runners.laned import LanedRunner
from ovdecode.runners.model_file import ModelSource, graph_of
from ovdecode.runners.precision import EXACT
from ovdecode.runners.slots import Slots
from ovdecode.runners.stateful_graph import StatefulGraph
from ovdecode.runners.tensors import Outputs
from ovdecode.vocabulary import Vocabulary


class StatefulRunner(LanedRunner["Lane"]):
    """A row of the batch for each live sequence: prefill, decode and verification of many in one inference.

    Needs nothing but public API, so it runs what can't be paged. Sequences that fork share no memory here,
    and shorter requests of a call are padded to the longest.

    Bits depend on the batch here, so the only precision is `fast`; with all the `properties` of
    `ovdecode.runners.precision.EXACT` it computes in f32, and `tolerance` says so.

    Args:
        model: a stateful language model, which is not changed, or the file of one.
        device: where to compile it.
        precision: `fast`.
        properties: further OpenVINO properties for compiling.
        cache_bytes: bound on the cache.
        context_length: the longest sequence, in tokens.

    Raises:
        PrecisionError: if another precision is asked for.
        ModelError: if the model is not stateful, or lacks an input.
    """

    name = "stateful"
    graph_type: ClassVar[type[StatefulGraph]] = StatefulGraph

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
        one_of("precision", precision, Precision)
        if precision != "fast":
            raise PrecisionError(
                f"`precision` must be 'fast' on the `{self.name}` runner, whose bits depend on the batch, "
                f"got {precision!r}; for f32 throughout, within 1e-3, pass properties={dict(EXACT)} with it, "
                "or use the `paged` runner"
            )
        self._device, self._properties, self._cache_bytes = device, dict(properties or {}), cache_bytes
        super().__init__(model, precision, context_length)
        graph = self._lanes[False].graph
        self.vocab_size, self.token_bytes = graph.vocab_size, graph.token_bytes
        self.tolerance = 1e-3 if graph.is_f32 else 1.5

    def recompute(self, tokens: NDArray[np.int64], request: Forward) -> Answer:
        """Answer on a tree and a cache of its own."""
        sequence = Vocabulary(self.vocab_size).prompt(tokens.tolist())
        alone = Forward(sequence, request.rows, None, request.hidden, request.layers)
        self._check([alone])
        return Lane(self._ready(not request.plain).graph, self._cache_bytes).submit([alone])()[0]

    @property
    def cache_bytes(self) -> int:
        """Bytes in the rows that living sequences hold."""
        return sum(lane.in_use * lane.slots.columns * lane.graph.token_bytes for lane in self._lanes.values())

    def _like(self, model: ModelSource) -> StatefulRunner:
        return type(self)(
            model,
            self._device,
            self.precision,
            self._properties,
            cache_bytes=self._cache_bytes,
            context_length=self.context_length,
        )

    def _lane(self, hidden: bool) -> Lane:
        return Lane(self.graph_type(graph_of(self._model), self._device, self._properties, hidden), self._cache_bytes)


class Lane:
    """Runs requests that are all plain, or all rich, on a graph compiled for them and a cache of its own."""

    def __init__(self, graph: StatefulGraph, cache_bytes: int) -> None:
        self.graph = graph
        self.slots = Slots(cache_bytes // graph.token_bytes)
        self._memory = graph.memory()

    @property
    def in_use(self) -> int:
        """Rows that hold keys and values of living sequences."""
        return self.slots.in_use

    def missing(self, request: Forward) -> int:
        """How many of the sequence's tokens are in no row of the cache."""
        return self.slots.missing(request.sequence)

    def fits(self, requests: Items[Forward]) -> int:
        """How many of these, in order, the cache can hold together."""
        return self.slots.fits([request.sequence for request in requests])

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start one inference for all requests that need one."""
        live = [place for place, one in enumerate(requests) if one.rows or self.slots.missing(one.sequence)]
        if not live:
            nothing = self._memory.nothing()
            return lambda: [self._answer(request, 0, nothing) for request in requests]
        step = self.slots.plan([(requests[place].sequence, requests[place].rows) for place in live])
        starts = dict(zip(live, step.starts, strict=True))
        wait = self._memory.start(step)

        def answers() -> list[Answer]:
            outputs = wait()
            self.slots.commit(step)
            return [self._answer(one, starts.get(place, 0), outputs) for place, one in enumerate(requests)]

        return answers

    def _answer(self, request: Forward, start: int, outputs: Outputs) -> Answer:
        rows = slice(start, start + request.rows)
        layers = {layer: self.graph.read_out(outputs[f"hidden.{layer}"][rows]) for layer in request.layers}
        hidden = outputs["hidden.final"][rows] if request.hidden else None
        further = [outputs[name][rows] for name in ("blocks", "weights") if name in outputs]
        return Answer(outputs["logits"][rows], outputs["logsumexp"][rows], hidden, layers or None, *further)
