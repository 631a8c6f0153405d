"""The compiled model with a cache of rows, and the memory of one: variables here, arrays in `explicit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ModelError
from ovdecode.runners.anatomy import cache_pairs, describe_ports, find_input
from ovdecode.runners.graph import (
    WANTED_ROWS,
    add_statistics,
    expose_hidden,
    gather_before_head,
    head_model,
    model_form,
)
from ovdecode.runners.precision import EXACT, compiled_setting, unmet
from ovdecode.runners.residual import residual_stream
from ovdecode.runners.slots import Step
from ovdecode.runners.tensors import Outputs, Tensors, sealed

if TYPE_CHECKING:
    import openvino as ov


class StatefulGraph:
    """A model compiled with a cache of rows, and the memory of one such cache.

    Args:
        model: a stateful model; it is not changed.
        device, properties: how to compile it.
        hidden: also output the residual stream after every layer, and what enters the LM head.
    """

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "position_ids", "beam_idx")

    def __init__(self, model: ov.Model, device: str, properties: Mapping[str, Any], hidden: bool) -> None:
        import openvino as ov

        core = ov.Core()
        graph = self.prepare(model)
        missing = [name for name in self.inputs if find_input(graph, name) is None]
        if missing:
            raise ModelError(
                f"`model` must have the inputs {', '.join(self.inputs)}, but it lacks "
                f"{', '.join(missing)}; {describe_ports(graph)}"
            )
        gather_before_head(graph)
        add_statistics(graph)
        if hidden:
            expose_hidden(graph, range(len(residual_stream(model))))
            self._head = core.compile_model(head_model(model), device, properties).create_infer_request()
        self.compiled = core.compile_model(graph, device, properties)
        self.token_bytes = self.measure(graph)
        self._outputs = [port.any_name for port in self.compiled.outputs if port.partial_shape.rank.get_length() < 4]
        self.vocab_size: int = self.compiled.output("logits").partial_shape[1].get_length()

    def prepare(self, model: ov.Model) -> ov.Model:
        """A copy of the model, in this runner's form."""
        if (form := model_form(model)) != "stateful":
            raise ModelError(f"`model` must be stateful for this runner, but its cache is {form}")
        return model.clone()

    def measure(self, graph: ov.Model) -> int:
        """Bytes of keys and values that one token takes."""
        kind = compiled_setting(self.compiled, "KV_CACHE_PRECISION")
        size = getattr(kind, "size", 4)
        ends = [end for pair in cache_pairs(graph) for end in (pair.key, pair.value)]
        return int(size * sum(static_size(end.get_output_partial_shape(0)) for end in ends))

    @property
    def is_f32(self) -> bool:
        """Whether everything is computed and kept in f32."""
        return not unmet(EXACT, self.compiled)

    def memory(self) -> StatefulMemory:
        """An empty cache, and the infer request that works on it."""
        return StatefulMemory(self.compiled, self.inputs, self._outputs)

    def read_out(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """The LM head's logits, (rows, vocab), of a layer's residual stream, (rows, hidden)."""
        if not len(hidden):
            logits = np.empty((0, self.vocab_size), np.float32)
        else:
            logits = self._head.infer({"hidden": hidden}, share_outputs=True)["logits"].copy()
        logits.flags.writeable = False
        return logits


class StatefulMemory:
    """One infer request; its variables are the cache."""

    def __init__(self, compiled: ov.CompiledModel, inputs: tuple[str, ...], outputs: list[str]) -> None:
        self.request = compiled.create_infer_request()
        self._tensors = Tensors(self.request, outputs)
        self._inputs = (*inputs, WANTED_ROWS)
        self._under_way: tuple[object, ...] = ()

    def start(self, step: Step) -> Callable[[], Outputs]:
        """Start an inference; the call returned waits for its outputs, which stay valid while held."""
        self.settle()
        if step.reset:
            self.request.reset_state()
        return self.run(step, {}, {})

    def run(
        self, step: Step, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]
    ) -> Callable[[], Outputs]:
        """Start an inference of the step's inputs and of others, into new arrays and into others."""
        import openvino as ov

        self._tensors.write({name: getattr(step, name) for name in self._inputs})
        for name, array in [*inputs.items(), *outputs.items()]:
            self.request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        found = self._tensors.outputs(len(step.wanted_rows))
        self._under_way = (inputs, outputs)  # the request does not keep what it reads and writes alive
        self.request.start_async()

        def wait() -> Outputs:
            self.finish()
            return sealed(found)

        return wait

    def settle(self) -> None:
        """Wait for an inference that was abandoned, whose failure is nobody's."""
        with suppress(RuntimeError):
            self.finish()

    def finish(self) -> None:
        """Wait for an inference under way, if nobody did."""
        if self._under_way:
            try:
                self.request.wait()
            except RuntimeError:
                self._under_way = ()
                raise
            self._under_way = ()

    def nothing(self) -> Outputs:
        """The outputs of an inference that nobody wants a row of."""
        return sealed({name: np.empty((0, *width), np.float32) for name, width in self._tensors.widths.items()})


def static_size(shape: ov.PartialShape) -> int:
    """The product of the sizes that are known."""
    return int(np.prod([size.get_length() for size in shape if size.is_static]))
