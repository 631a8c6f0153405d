"""How many rows a matrix product may have for each of them to keep its bits: a device has a kernel for few, one for
many."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import PrecisionError
from ovdecode.runners.anatomy import token_flow
from ovdecode.runners.products import ease_products

if TYPE_CHECKING:
    import openvino as ov

USUAL, MOST = 32, 512
"""The bits are those of a row among so many; and no more rows than `MOST` are tried, and so none are relied on."""


def even_rows(model: ov.Model, core: ov.Core, device: str, options: Mapping[str, Any]) -> range:
    """The numbers of rows, up to `MOST`, with which a row of the model's products has the same bits.

    Kernels are chosen by the number of rows. In bf16 with AMX, up to 4 rows take another one than more do; for
    compressed weights on AVX2, more than 80 add in another order; a single row, often a case of its own, is never
    relied on.

    Args:
        model: a language model as it is read; one product of each shape is tried.
        core, device, options: how it is to be compiled.

    Raises:
        PrecisionError: if the bits depend on a row's place in the product.
    """
    least, most = 2, MOST
    for product in _products(model):
        request = core.compile_model(product, device, dict(options)).create_infer_request()
        width = product.input(0).partial_shape[1].get_length()
        row = np.random.default_rng(0).standard_normal(width).astype(np.float32)

        def bits(count: int, row: NDArray[np.float32] = row, request: ov.InferRequest = request) -> bytes | None:
            rows = request.infer([np.tile(row, (count, 1))])[0].view(np.int32)
            return rows[0].tobytes() if (rows == rows[0]).all() else None

        usual = bits(USUAL)
        if usual is None:
            raise PrecisionError(
                f"the {USUAL} equal rows of a matrix product must have the same bits, but on {device} they have not; "
                "use precision='fast'"
            )
        few, many = range(least, USUAL), range(USUAL + 1, most + 1)
        least = least + bisect_left(few, True, key=lambda count: bits(count) == usual)
        if bits(most) != usual:
            most = USUAL + bisect_left(many, True, key=lambda count: bits(count) != usual)
    return range(least, most + 1)


def _products(model: ov.Model) -> Iterator[ov.Model]:
    """Models of one product each, f32 ``(rows, in)`` to ``(rows, out)``: one for every shape."""
    import openvino as ov
    from openvino import opset13 as op

    model = model.clone()
    ease_products(model)
    flow = token_flow(model)
    inside = {node.get_friendly_name() for node in flow}
    seen = set[str]()
    for node in flow:
        if node.get_type_name() != "MatMul":
            continue
        sides = [side for side in (0, 1) if node.input_value(side).get_node().get_friendly_name() in inside]
        width = node.input_value(sides[0]).partial_shape[-1]
        shape = f"{width} {node.output(0).partial_shape[-1]}"
        if len(sides) == 1 and width.is_static and shape not in seen:
            seen.add(shape)
            rows = op.parameter([-1, width.get_length()], ov.Type.f32, name="rows")
            kind = node.input_value(sides[0]).element_type
            source = rows if kind == ov.Type.f32 else op.convert(rows, kind)
            node.input(sides[0]).replace_source_output(source.output(0))
            yield ov.Model([op.result(node.output(0))], [rows], "product")
