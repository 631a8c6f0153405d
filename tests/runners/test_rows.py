"""The border between two kernels, found with models of products that have one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ovdecode.errors import PrecisionError
from ovdecode.runners import rows
from ovdecode.runners.rows import MOST, USUAL, even_rows


class Product:
    """Stands for a compiled product of width 3 whose kernel depends on the number of rows."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.tried = kernel, []

    def input(self, index: int) -> Any:
        return self

    @property
    def partial_shape(self) -> Any:
        return [self, self]

    def get_length(self) -> int:
        return 3

    def create_infer_request(self) -> Any:
        return self

    def infer(self, inputs: list[Any]) -> list[Any]:
        count = len(inputs[0])
        self.tried.append(count)
        return [np.float32(self.kernel(count)) + np.zeros((count, 2), np.float32) + inputs[0][:, :2]]


class Core:
    def compile_model(self, product: Product, device: str, options: dict[str, Any]) -> Product:
        return product


def found(monkeypatch: pytest.MonkeyPatch, *kernels: Any) -> range:
    products = [Product(kernel) for kernel in kernels]
    monkeypatch.setattr(rows, "_products", lambda model: products)
    core: Any = Core()
    try:
        return even_rows(None, core, "CPU", {})  # type: ignore[arg-type]
    finally:
        assert all(len(product.tried) < 20 for product in products)


@pytest.mark.parametrize(
    ("kernels", "least", "most"),
    [
        ([lambda count: 0], 2, MOST),
        ([lambda count: count == 1], 2, MOST),
        ([lambda count: count > 4], 5, MOST),  # as with AMX
        ([lambda count: count > 80], 2, 80),  # as on AVX2
        ([lambda count: count > 80, lambda count: count > 4, lambda count: count > 100], 5, 80),
        ([lambda count: (count >= USUAL) + (count > USUAL)], USUAL, USUAL),
    ],
)
def test_every_number_up_to_the_border(
    monkeypatch: pytest.MonkeyPatch, kernels: list[Any], least: int, most: int
) -> None:
    assert found(monkeypatch, *kernels) == range(least, most + 1)


def test_bits_that_depend_on_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrecisionError, match="but on CPU they have not; use precision='fast'"):
        found(monkeypatch, lambda count: np.arange(count)[:, None])
