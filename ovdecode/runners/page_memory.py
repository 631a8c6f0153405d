"""The memory of a paged cache: an input of the graph for every layer, or a part of the graph."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.runners.paging import cache_layouts, page_size

if TYPE_CHECKING:
    import openvino as ov

LEAST_PAGES = 10
"""How many pages the self-test needs, the lane's own among them."""
_KEPT_TYPE = "keep_const_precision_0"
"""OpenVINO's own mark of a constant whose type it is not to change: for inference in f32 it would make f16 to f32."""
_SAME_SIZE: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.float32}


class CacheTooSmall(ConfigurationError):
    """`cache_bytes` is less than the self-test needs."""


class PageMemory:
    """Keys and values of all layers, page by page. No page of it takes memory until it is written.

    It must live as long as whatever reads it: neither a graph nor a request keeps it alive.

    Args:
        model: a paged model that says how its cache is laid out: a compiled one, or the graph that a device made of it.
        cache_bytes: bound on keys and values together.

    Attributes:
        layouts: of keys and of values.
        page_size: tokens in a page.
        page_bytes: bytes of a page in all layers.
        pages: how many there are.
        rewritable: whether each token of a page is written alone, and its neighbours stay as they are.
        arrays: one for keys and one for values, (layers, pages, *stored).

    Raises:
        CacheTooSmall: if there is no room for the least number of pages.
    """

    def __init__(self, model: ov.Model | ov.CompiledModel, cache_bytes: int) -> None:
        self.layouts = cache_layouts(model)
        self.page_size = page_size(*self.layouts)
        self.page_bytes = sum(layout.block_bytes * len(layout.ports) for layout in self.layouts)
        self.rewritable = all(layout.block[1] == self.page_size for layout in self.layouts)
        self.pages = cache_bytes // self.page_bytes
        if self.pages < LEAST_PAGES:
            raise CacheTooSmall(
                f"`cache_bytes` must be at least {LEAST_PAGES * self.page_bytes}, {LEAST_PAGES} pages of "
                f"{self.page_bytes} bytes, got {cache_bytes}"
            )
        self._mappings = [_reserved(len(layout.ports) * self.pages * layout.block_bytes) for layout in self.layouts]
        self.arrays: list[NDArray[Any]] = [
            np.frombuffer(mapping, _SAME_SIZE[layout.element_type.size]).reshape(-1, self.pages, *layout.stored)
            for mapping, layout in zip(self._mappings, self.layouts, strict=True)
        ]
        # Or the first token would take two megabytes, for the keys and for the values of every layer.
        self._advise("MADV_NOHUGEPAGE")

    @contextmanager
    def part_of(self, graph: ov.Model) -> Iterator[None]:
        """Within this, compile a graph, of which the memory is a part from then on.

        An inference looks at each of its inputs, which takes 4 % of a step with one token.
        """
        import openvino as ov

        for port, tensor in self._tensors():
            parameter = graph.input(port).get_node()
            constant = ov.op.Constant(tensor, shared_memory=True)
            constant.get_rt_info()[_KEPT_TYPE] = True
            parameter.output(0).replace(constant.output(0))
            graph.remove_parameter(parameter)
        # The device looks through all of its constants. Two megabytes of zeros at a time, that is soon done.
        self._advise("MADV_HUGEPAGE")
        yield
        self._advise("MADV_DONTNEED", "MADV_NOHUGEPAGE")

    def bind(self, request: ov.InferRequest) -> None:
        """Make the memory the input of a request, unless it is a part of the graph."""
        names = {name for port in request.get_compiled_model().inputs for name in port.names}
        for port, tensor in self._tensors():
            if port in names:
                request.set_tensor(port, tensor)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of a page to another."""
        end = tokens if self.rewritable else None
        for array in self.arrays:
            array[:, target, :, :end] = array[:, source, :, :end]

    def _advise(self, *advice: str) -> None:
        """Tell the system how the memory is used. One that knows no such advice does without."""
        for each in advice:
            if hasattr(mmap, each):
                with suppress(OSError):
                    for mapping in self._mappings:
                        mapping.madvise(getattr(mmap, each))

    def _tensors(self) -> Iterator[tuple[str, ov.Tensor]]:
        """The memory of each layer, by the name of its input."""
        import openvino as ov

        for layout, array in zip(self.layouts, self.arrays, strict=True):
            shape = ov.Shape([self.pages, *layout.block])
            for port, layer in zip(layout.ports, array, strict=True):
                yield port, ov.Tensor(layer, shape, layout.element_type)


def _reserved(size: int) -> mmap.mmap:
    """So many bytes, which are this process's own."""
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return mmap.mmap(-1, size, **own)
