"""The runner for IRs with their cache in plain sight: past inputs and present outputs, gathered in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ModelError
from ovdecode.runners.anatomy import describe_ports, find_output
from ovdecode.runners.explicit_graph import to_explicit
from ovdecode.runners.precision import EXACT, unmet
from ovdecode.runners.slots import Step
from ovdecode.runners.stateful import StatefulRunner
from ovdecode.runners.stateful_graph import StatefulGraph, StatefulMemory, static_size
from ovdecode.runners.tensors import Outputs

if TYPE_CHECKING:
    import openvino as ov

PAST, PRESENT = "past_key_values", "present"


class ExplicitGraph(StatefulGraph):
    """A model compiled with the cache as inputs and outputs."""

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "position_ids")

    def prepare(self, model: ov.Model) -> ov.Model:
        """A copy of the model with past inputs, each with the output that is its future."""
        graph = to_explicit(model)
        self._pasts = [port for port in graph.inputs if _past_name(port)]
        presents = [PRESENT + _past_name(port)[len(PAST) :] for port in self._pasts]
        missing = [name for name in presents if find_output(graph, name) is None]
        if missing or not presents:
            raise ModelError(
                f"`model` must have outputs {PRESENT}.* for its inputs {PAST}.*, but it lacks "
                f"{', '.join(missing[:3]) or 'both'}; {describe_ports(graph)}"
            )
        return graph

    def measure(self, graph: ov.Model) -> int:
        """Bytes of keys and values that one token takes."""
        return sum(port.element_type.size * static_size(port.partial_shape) for port in self._pasts)

    @property
    def is_f32(self) -> bool:
        """Whether everything is computed and kept in f32."""
        import openvino as ov

        kept = all(port.element_type == ov.Type.f32 for port in self._pasts)
        return kept and not unmet({name: EXACT[name] for name in EXACT if name != "KV_CACHE_PRECISION"}, self.compiled)

    def memory(self) -> ExplicitMemory:
        """An empty cache, and the infer request that works on it."""
        return ExplicitMemory(self.compiled, self.inputs, self._outputs, self._pasts)


class ExplicitMemory(StatefulMemory):
    """One infer request, and the arrays that its last inference left."""

    def __init__(
        self,
        compiled: ov.CompiledModel,
        inputs: tuple[str, ...],
        outputs: list[str],
        pasts: list[ov.Output],
    ) -> None:
        super().__init__(compiled, inputs, outputs)
        self._shapes = {_past_name(port): port.partial_shape for port in pasts}
        self._types = {_past_name(port): port.element_type.to_dtype() for port in pasts}
        self._arrays: dict[str, NDArray[Any]] = {}

    def start(self, step: Step) -> Callable[[], Outputs]:
        """Start an inference on the rows that the step names."""
        self.settle()
        rows, columns = step.attention_mask.shape
        past = {name: self._gathered(name, step) for name in self._shapes}
        present = {name: self._empty(name, rows, columns) for name in self._shapes}
        self._arrays = present  # of no meaning until the step is committed, which is after the inference
        return self.run(step, past, {PRESENT + name[len(PAST) :]: array for name, array in present.items()})

    def _gathered(self, name: str, step: Step) -> NDArray[Any]:
        if step.reset:
            return self._empty(name, len(step.beam_idx), 0)
        array = self._arrays[name]
        if np.array_equal(step.beam_idx, np.arange(len(array))):
            return array
        return np.take(array, step.beam_idx, axis=0)

    def _empty(self, name: str, rows: int, columns: int) -> NDArray[Any]:
        """A new array of a past's shape: rows come first, and the other unknown size counts slots."""
        sizes = list(self._shapes[name])[1:]
        shape = [rows, *(size.get_length() if size.is_static else columns for size in sizes)]
        return np.empty(shape, self._types[name])


class ExplicitRunner(StatefulRunner):
    """`StatefulRunner` for a model whose cache is in plain sight; a stateful one is rewritten.

    The same plan of rows and slots, carried out in NumPy: keys and values are arrays that come in as
    ``past_key_values.*`` and go out as ``present.*``. Rows that nobody forks or drops are not copied.

    Takes the arguments of `StatefulRunner`, and raises what it does.
    """

    name = "explicit"
    graph_type: ClassVar[type[StatefulGraph]] = ExplicitGraph


def _past_name(port: ov.Output) -> str:
    """The name of a past input; empty if it is none."""
    return next((str(name) for name in sorted(port.names) if name.startswith(PAST)), "")
