"""The compiled paged model and its memory: caches shared by every infer request, fresh outputs for every inference."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.runners.base import Precision
from ovdecode.runners.graph import WANTED_ROWS, add_statistics, expose_hidden, gather_before_head, head_model
from ovdecode.runners.model_file import ModelFile, ModelSource, graph_of
from ovdecode.runners.page_memory import PageMemory
from ovdecode.runners.pages import PageCopy
from ovdecode.runners.paging import to_paged
from ovdecode.runners.precision import PROPERTIES, check_compiled, compiled_setting, options_for, quantise_by_token
from ovdecode.runners.prepared import PreparedGraph
from ovdecode.runners.products import ease_products
from ovdecode.runners.residual import residual_stream
from ovdecode.runners.rows import even_rows
from ovdecode.runners.tensors import Outputs, Tensors, sealed

if TYPE_CHECKING:
    import openvino as ov


class PagedGraph:
    """A model compiled for paging, and its memory.

    Args:
        model: the stateful model; it is not changed. If it is a file, and `CACHE_DIR` is among the properties, what
            the device makes of it is kept there.
        device, precision, properties: how to compile it.
        cache_bytes: bound on keys and values together.
        hidden: also output the residual stream after every layer, and what enters the LM head.

    Attributes:
        memory: of the cache.
        prepared: the graph on disk, if it is kept there.
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
        options = options_for(precision, properties, core, device)
        if hidden:
            self._head = core.compile_model(head_model(graph_of(model)), device, options).create_infer_request()
            self._head_tensors = Tensors(self._head, ["logits"])
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

        prepared: PreparedGraph | None = None
        if cache and isinstance(model, ModelFile) and device == "CPU":
            form = "hidden" if hidden else "plain"
            prepared = PreparedGraph(core, Path(cache), model.identity, device, options, form)
            compiled, memory = prepared.compile(build, cache_bytes)
        else:
            compiled = core.compile_model(build(), device, options)
            memory = PageMemory(compiled, cache_bytes)
        check_compiled(precision, PROPERTIES[precision], compiled)
        self.even_rows: range | None = None
        if precision != "fast":

            def find() -> range:
                return even_rows(graph_of(model), core, device, options)

            self.even_rows = find() if prepared is None else prepared.even_rows(find)
        self.threads = int(compiled_setting(compiled, "INFERENCE_NUM_THREADS") or os.cpu_count() or 1)
        self._request = compiled.create_infer_request()
        memory.bind(self._request)
        self._tensors = Tensors(self._request, (port.any_name for port in compiled.outputs))
        self.vocab_size = self._tensors.widths["logits"][0]
        # The last, so that they go after the request: an inference that was abandoned may still read and write.
        self.memory, self.prepared = memory, prepared

    def start(self, feed: Mapping[str, NDArray[Any]]) -> Callable[[], Outputs]:
        """Start an inference; the call that is returned waits for its outputs, which stay valid while held.

        Args:
            feed: input name to array; `wanted_rows` among them.
        """
        self._settle()
        self._tensors.write(feed)
        outputs = self._tensors.outputs(len(feed[WANTED_ROWS]))
        self._request.start_async()

        def wait() -> Outputs:
            self._request.wait()
            return sealed(outputs)

        return wait

    def copy_pages(self, copies: list[PageCopy]) -> None:
        """Copy pages, in all layers."""
        if copies:
            self._settle()  # one that was abandoned may still write where pages are free again
        for copy in copies:
            self.memory.copy(*copy)

    def _settle(self) -> None:
        """Wait for an inference that was started and abandoned; an error of it, or of one before, is told no more."""
        with suppress(RuntimeError):
            self._request.wait()

    def read_out(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """The LM head's logits, (rows, vocab), of a layer's residual stream, (rows, hidden)."""
        self._head_tensors.write({"hidden": hidden})
        outputs = self._head_tensors.outputs(len(hidden))
        self._head.infer(share_outputs=True)  # or all would be copied once more
        return sealed(outputs)["logits"]
