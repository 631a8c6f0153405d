"""Products that are written anew: the same values, from fewer products and signed weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ovdecode.models import ModelFolder
from ovdecode.runners.products import ease_products

WIDTH, HEIGHTS = 32, (16, 8, 8)


def stored(rng: Any, height: int, zero: int = 128, bits: Any = np.uint8, groups: bool = True) -> Any:
    """Weights (height, WIDTH) as a converter stores them: whole numbers, a zero point and a scale for each group."""
    import openvino as ov
    from openvino import opset13 as op

    shape = (height, WIDTH // 16, 16) if groups else (height, WIDTH)
    numbers = op.convert(op.constant(rng.integers(0, 256, shape).astype(bits)), ov.Type.f32)
    zeros = op.convert(op.constant(np.full((*shape[:-1], 1), zero, np.uint8)), ov.Type.f32)
    scales = op.constant(rng.random((*shape[:-1], 1)).astype(np.float32))
    weights = op.multiply(op.subtract(numbers, zeros), scales)
    return op.reshape(weights, np.array([height, WIDTH], np.int64), False) if groups else weights


def layer(weights: list[Any], bias: bool = False) -> Any:
    import openvino as ov
    from openvino import opset13 as op

    states = op.parameter([-1, WIDTH], np.float32, name="states")
    products = [op.matmul(states, each, False, True) for each in weights]
    if bias:
        products = [op.add(each, np.ones(1, np.float32)) for each in products]
    return ov.Model([op.result(each) for each in products], [states], "layer")


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def values(model: Any) -> list[Any]:
    import openvino as ov

    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    states = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    return [request.infer([states])[place].copy() for place in range(len(model.outputs))]


@pytest.mark.parametrize("groups", [True, False])
def test_three_products_of_the_same_states_become_one_with_signed_weights(groups: bool) -> None:
    model = layer([stored(np.random.default_rng(0), height, groups=groups) for height in HEIGHTS])
    eased = model.clone()
    ease_products(eased)
    assert (kinds(model).count("MatMul"), kinds(eased).count("MatMul")) == (3, 1)
    assert "Subtract" not in kinds(eased)
    assert [port.partial_shape[1].get_length() for port in eased.outputs] == list(HEIGHTS)
    for before, after in zip(values(model), values(eased), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-3)  # sums of 32 products up to 200 each


@pytest.mark.parametrize("kind", ["f16", "bf16", "u4", "i4"])
def test_weights_of_any_type_keep_it(kind: str) -> None:
    import openvino as ov
    from openvino import opset13 as op

    rng, element_type = np.random.default_rng(0), getattr(ov.Type, kind)

    def weights(height: int) -> Any:
        numbers = rng.integers(0, 8, height * WIDTH).tolist()
        return op.convert(ov.op.Constant(element_type, ov.Shape([height, WIDTH]), numbers), ov.Type.f32)

    model = layer([weights(height) for height in HEIGHTS])
    eased = model.clone()
    ease_products(eased)
    assert kinds(eased).count("MatMul") == 1
    (stored,) = [node for node in eased.get_ordered_ops() if node.output(0).element_type == element_type]
    assert list(stored.output(0).shape) == [sum(HEIGHTS), WIDTH]
    for before, after in zip(values(model), values(eased), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "case", ["two", "bias", "stored in two ways", "weights that are no constants", "several of each", "one scale"]
)
def test_what_is_left_as_it_is(case: str) -> None:
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    weights = [stored(rng, height) for height in HEIGHTS]
    if case == "two":
        weights.pop()
    elif case == "stored in two ways":
        weights[1] = stored(rng, HEIGHTS[1], groups=False)
    elif case == "weights that are no constants":
        weights[1] = op.relu(weights[1])
    elif case == "one scale":
        scale = op.constant(np.full((1, 1), 0.5, np.float32))
        weights = [op.multiply(each, scale) for each in weights]
    elif case == "several of each":
        weights = [op.unsqueeze(each, np.array([0], np.int64)) for each in weights]  # as experts are stored
    model = layer(weights, bias=case == "bias")
    before = kinds(model).count("MatMul")
    ease_products(model)
    assert kinds(model).count("MatMul") == before


@pytest.mark.parametrize(("zero", "bits"), [(127, np.uint8), (128, np.int8)])
def test_other_weights_keep_their_zero_point(zero: int, bits: Any) -> None:
    model = layer([stored(np.random.default_rng(0), height, zero, bits) for height in HEIGHTS])
    ease_products(model)
    assert kinds(model).count("Subtract") == 1  # of the three, now together


def test_every_layer_of_a_real_model(smollm2_folder: ModelFolder) -> None:
    import openvino as ov

    model = ov.Core().read_model(smollm2_folder.xml)
    eased = model.clone()
    ease_products(eased)
    layers = 30
    assert kinds(model).count("MatMul") - kinds(eased).count("MatMul") == 2 * layers
    assert kinds(eased).count("VariadicSplit") - kinds(model).count("VariadicSplit") == layers
    assert kinds(model).count("Subtract") - kinds(eased).count("Subtract") == 7 * layers + 1
    sizes = [node.output(0).element_type for node in eased.get_ordered_ops() if node.get_type_name() == "Constant"]
    assert ov.Type.u8 not in sizes
