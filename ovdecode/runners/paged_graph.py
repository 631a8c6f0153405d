"""The compiled paged model and its memory: caches shared by every infer request, fresh outputs for every inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import CacheError
from ovdecode.runners.base import Precision
from ovdecode.runners.graph import WANTED_ROWS, add_logsumexp, add_peaks, expose_hidden, gather_before_head, head_model
from ovdecode.runners.paging import CacheLayout, cache_layouts, page_size, to_paged
from ovdecode.runners.precision import check_compiled, check_properties, device_properties
from ovdecode.runners.residual import residual_stream
from ovdecode.runners.tensors import Outputs, Tensors, sealed

if TYPE_CHECKING:
    import openvino as ov

_SAME_SIZE: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.float32}


class PagedGraph:
    """A model compiled for paging, and its memory.

    Args:
        model: the stateful model; it is not changed.
        device, precision, properties: how to compile it.
        cache_bytes: bound on keys and values together.
        hidden: also output the residual stream after every layer, and what enters the LM head.
    """

    def __init__(
        self,
        model: ov.Model,
        device: str,
        precision: Precision,
        properties: Mapping[str, Any],
        *,
        cache_bytes: int,
        hidden: bool,
    ) -> None:
        import openvino as ov

        core = ov.Core()
        wanted = device_properties(core, device, precision)
        check_properties(precision, wanted, properties)
        options = {**wanted, **properties}
        graph = model.clone()
        gather_before_head(graph)
        add_logsumexp(graph)
        add_peaks(graph)
        if hidden:
            expose_hidden(graph, range(len(residual_stream(model))))
            self._head = core.compile_model(head_model(model), device, options).create_infer_request()
        # A paged model never hits OpenVINO's compilation cache, and would leave 190 MB in it at every start.
        options.pop("CACHE_DIR", None)
        compiled = core.compile_model(to_paged(graph), device, options)
        check_compiled(precision, wanted, compiled)
        layouts = cache_layouts(compiled)
        self.page_size = page_size(*layouts)
        self.page_bytes = sum(layout.block_bytes * len(layout.ports) for layout in layouts)
        self.quantised = any(layout.element_type.size == 1 for layout in layouts)
        self.pages = cache_bytes // self.page_bytes
        if self.pages < 4:
            raise CacheError(f"`cache_bytes` must hold at least 4 pages of {self.page_bytes} bytes, got {cache_bytes}")
        self._memory = [_memory(layout, self.pages) for layout in layouts]
        self._request = compiled.create_infer_request()
        for layout, memory in zip(layouts, self._memory, strict=True):
            shape = ov.Shape([self.pages, *layout.block])
            for port, layer in zip(layout.ports, memory, strict=True):
                self._request.set_tensor(port, ov.Tensor(layer, shape, layout.element_type))
        self._tensors = Tensors(self._request, (port.any_name for port in compiled.outputs))
        self.vocab_size = self._tensors.widths["logits"][0]

    def start(self, feed: Mapping[str, NDArray[Any]]) -> Callable[[], Outputs]:
        """Start an inference; the call that is returned waits for its outputs, which stay valid while held.

        Args:
            feed: input name to array; `wanted_rows` among them.
        """
        self._request.wait()  # for one that was started and abandoned
        self._tensors.write(feed)
        outputs = self._tensors.outputs(len(feed[WANTED_ROWS]))
        self._request.start_async()

        def wait() -> Outputs:
            self._request.wait()
            return sealed(outputs)

        return wait

    def copy_pages(self, copies: list[tuple[int, int]]) -> None:
        """Copy blocks, (from, to), for all layers."""
        if copies:
            self._request.wait()  # one that was abandoned may still write where pages are free again
        for source, target in copies:
            for memory in self._memory:
                memory[:, target] = memory[:, source]

    def read_out(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """The LM head's logits, (rows, vocab), of a layer's residual stream, (rows, hidden)."""
        logits: NDArray[np.float32] = self._head.infer({"hidden": hidden})["logits"].copy()
        logits.flags.writeable = False
        return logits


def _memory(layout: CacheLayout, pages: int) -> NDArray[Any]:
    """Uninitialised memory, (layers, pages, elements of a block); no page of it exists until it is written."""
    elements = int(np.prod(layout.block))
    return np.empty((len(layout.ports), pages, elements), _SAME_SIZE[layout.element_type.size])
