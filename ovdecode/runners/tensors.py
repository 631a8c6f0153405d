"""The arrays that an infer request reads and writes, bound to it as seldom as possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino as ov

Outputs = dict[str, NDArray[np.float32]]


def sealed(outputs: Outputs) -> Outputs:
    """The same arrays, which nobody may write to from now on."""
    for array in outputs.values():
        array.flags.writeable = False
    return outputs


class Tensors:
    """Feeds an infer request, and takes what it says.

    Naming a tensor to OpenVINO costs more than filling a small one, so inputs are written in place while their shapes
    stay. An output is written again once nobody holds any view of it.

    Args:
        request: no inference of it may be under way when a method is called.
        outputs: names of its f32 outputs, (rows, ...).
    """

    def __init__(self, request: ov.InferRequest, outputs: Iterable[str]) -> None:
        import openvino as ov

        self._request = request
        self._tensor = partial(ov.Tensor, shared_memory=True)
        compiled = request.get_compiled_model()
        self._inputs = {name: port for port in compiled.inputs for name in port.names}
        self._outputs = {name: compiled.output(name) for name in outputs}
        self.widths = {
            name: tuple(size.get_length() for size in list(port.partial_shape)[1:])
            for name, port in self._outputs.items()
        }
        self._bound: dict[str, NDArray[Any]] = {}
        self._rows = -1
        self._free: dict[str, list[_Buffer]] = {}

    def write(self, feed: Mapping[str, NDArray[Any]]) -> None:
        """Copy arrays into the inputs of these names."""
        for name, array in feed.items():
            bound = self._bound.get(name)
            if bound is None or bound.shape != array.shape:
                # An interrupt anywhere here must leave nothing noted that the request does not read.
                self._bound.pop(name, None)
                made = np.empty_like(array)
                self._request.set_tensor(self._inputs[name], self._tensor(made))
                bound = self._bound[name] = made
            bound[...] = array

    def outputs(self, rows: int) -> Outputs:
        """Arrays for this many rows, which the next inference fills; they are nobody else's while they are held."""
        if rows != self._rows:
            self._free = {name: [] for name in self._outputs}
            self._rows = rows  # the last, so that an interrupt leaves no buffers of another size
        taken = {}
        for name, port in self._outputs.items():
            free = self._free[name]
            buffer = free.pop() if free else self._buffer(rows, self.widths[name])
            self._request.set_tensor(port, buffer.tensor)
            taken[name] = np.asarray(_Lease(buffer, free))
        return taken

    def _buffer(self, rows: int, width: tuple[int, ...]) -> _Buffer:
        memory = np.empty((rows, *width), np.float32)
        return _Buffer(memory, self._tensor(memory))


class _Buffer(NamedTuple):
    """Memory for one output, and the tensor on it."""

    memory: NDArray[np.float32]
    tensor: ov.Tensor


class _Lease:
    """What the views of a buffer have in common: when the last of them goes, the buffer is free again."""

    __slots__ = ("__array_interface__", "_buffer", "_free")

    def __init__(self, buffer: _Buffer, free: list[_Buffer]) -> None:
        self.__array_interface__ = buffer.memory.__array_interface__
        self._buffer, self._free = buffer, free

    def __del__(self) -> None:
        self._free.append(self._buffer)
