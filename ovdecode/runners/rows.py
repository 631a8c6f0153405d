"""Up to how many rows a matrix product gives a row the same bits: where a device changes to another kernel."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ovdecode.errors import PrecisionError
from ovdecode.runners.anatomy import find_head, token_flow

if TYPE_CHECKING:
    import openvino as ov

MOST = 512
"""No more rows than this are tried, and so none are relied on."""


def most_even_rows(model: ov.Model, core: ov.Core, device: str, options: Mapping[str, Any]) -> int:
    """The most rows, from 2 to `MOST`, with which a row of the model's products has the same bits as among two.

    Kernels are chosen by the number of rows. For compressed weights on AVX2, the one for more than 80 rows adds in
    another order.

    Args:
        model: a language model as it is read; one product of each shape is tried.
        core, device, options: how it is to be compiled.

    Raises:
        PrecisionError: if they are fewer than 4: two, and two that keep them company.
    """
    most = MOST
    for product in _products(model):
        compiled = core.compile_model(product, device, dict(options))
        request = compiled.create_infer_request()
        row = np.random.default_rng(0).standard_normal(compiled.input(0).partial_shape[1].get_length())

        def bits(count: int, row: Any = row, request: ov.InferRequest = request) -> set[bytes]:
            rows = np.tile(row.astype(np.float32), (count, 1))
            return {one.tobytes() for one in request.infer([rows])[0]}

        expected = bits(2)
        uneven = range(3, most + 1)
        if bits(most) != expected:
            most = uneven[bisect_left(uneven, True, key=lambda count: bits(count) != expected)] - 1
    if most < 4:
        raise PrecisionError(
            f"a row of a matrix product must have the same bits among 2 rows and among 4, but on {device} it has not; "
            "use precision='fast'"
        )
    return most


def _products(model: ov.Model) -> Iterator[ov.Model]:
    """Models of one product each, f32 ``(rows, in)`` to ``(rows, out)``: one for every shape but the LM head's."""
    import openvino as ov
    from openvino import opset13 as op

    copy = model.clone()
    flow = token_flow(copy)
    head = find_head(copy).product
    inside = {node.get_friendly_name() for node in flow}
    seen = set[str]()
    for node in flow:
        if node.get_type_name() != "MatMul" or node.get_friendly_name() == head.get_friendly_name():
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
