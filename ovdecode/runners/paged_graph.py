"""The compiled paged model and its memory: caches shared by every infer request, fresh outputs for every inference."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.runners.base import Precision
from ovdecode.runners.graph import WANTED_ROWS, add_statistics, expose_hidden, gather_before_head, head_model
from ovdecode.runners.model_file import ModelFile, ModelSource, graph_of
from ovdecode.runners.paging import CacheLayout, cache_layouts, page_size, to_paged
from ovdecode.runners.precision import PROPERTIES, check_compiled, check_properties, compiled_setting, quantise_by_token
from ovdecode.runners.prepared import PreparedGraph
from ovdecode.runners.products import ease_products
from ovdecode.runners.residual import residual_stream
from ovdecode.runners.rows import even_rows
from ovdecode.runners.tensors import Outputs, Tensors, sealed

if TYPE_CHECKING:
    import openvino as ov

LEAST_PAGES = 10
"""How many pages the self-test needs, the lane's own among them."""
_SAME_SIZE: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.float32}


class CacheTooSmall(ConfigurationError):
    """`cache_bytes` is less than the self-test needs."""


class PagedGraph:
    """A model compiled for paging, and its memory.

    Args:
        model: the stateful model; it is not changed. If it is a file, and `CACHE_DIR` is among the properties, what
            the device makes of it is kept there.
        device, precision, properties: how to compile it.
        cache_bytes: bound on keys and values together.
        hidden: also output the residual stream after every layer, and what enters the LM head.

    Attributes:
        even_rows: among how many rows a row keeps its bits; None in `fast`, which promises no bits.
    """

    def __init__(
        self,
        model: ModelSource,
        device: str,
        precision: Precision,
        properties: Mapping[str, Any],
        *,
        cache_bytes: int,
        hidden: bool,
    ) -> None:
        import openvino as ov

        core = ov.Core()
        quantise_by_token(core, device)
        wanted = PROPERTIES[precision]
        check_properties(precision, wanted, properties)
        options = {**wanted, **properties}
        if hidden:
            self._head = core.compile_model(head_model(graph_of(model)), device, options).create_infer_request()
        cache = options.pop("CACHE_DIR", "")

        def build() -> ov.Model:
            graph = graph_of(model).clone()
            gather_before_head(graph)
            add_statistics(graph)
            if hidden:
                expose_hidden(graph, range(len(residual_stream(graph))))
            paged = to_paged(graph)
            ease_products(paged)
            return paged

        self.prepared: PreparedGraph | None = None
        if cache and isinstance(model, ModelFile) and device == "CPU":
            form = "hidden" if hidden else "plain"
            self.prepared = PreparedGraph(core, Path(cache), model.identity, device, options, form)
            compiled = self.prepared.compile(build)
        else:
            compiled = core.compile_model(build(), device, options)
        check_compiled(precision, wanted, compiled)
        self.even_rows: range | None = None
        if precision != "fast":

            def find() -> range:
                return even_rows(graph_of(model), core, device, options)

            self.even_rows = find() if self.prepared is None else self.prepared.even_rows(find)
        self.threads = int(compiled_setting(compiled, "INFERENCE_NUM_THREADS") or os.cpu_count() or 1)
        layouts = cache_layouts(compiled)
        self.page_size = page_size(*layouts)
        self.page_bytes = sum(layout.block_bytes * len(layout.ports) for layout in layouts)
        self.rewritable = all(layout.block[1] == self.page_size for layout in layouts)
        self.pages = cache_bytes // self.page_bytes
        if self.pages < LEAST_PAGES:
            raise CacheTooSmall(
                f"`cache_bytes` must be at least {LEAST_PAGES * self.page_bytes}, {LEAST_PAGES} pages of "
                f"{self.page_bytes} bytes, got {cache_bytes}"
            )
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
    """Memory, (layers, pages, elements of a block); no page of it exists until it is written."""
    kind = np.dtype(_SAME_SIZE[layout.element_type.size])
    shape = (len(layout.ports), pages, int(np.prod(layout.block)))
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    reserved = mmap.mmap(-1, int(np.prod(shape)) * kind.itemsize, **own)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # The system would make two megabytes at once, for the keys and for the values of every layer.
        reserved.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(reserved, kind).reshape(shape)
