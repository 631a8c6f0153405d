"""Inputs are written in place, and an output is used again once nobody holds a view of it."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from ovdecode.runners.tensors import Tensors


class Doubling:
    """A model that doubles its rows, and the tensors of one request for it."""

    def __init__(self) -> None:
        import openvino as ov
        from openvino import opset13 as op

        given = op.parameter([-1, 2], np.float32, name="given")
        given.output(0).set_names({"given"})
        doubled = op.multiply(given, np.float32(2))
        doubled.output(0).set_names({"doubled"})
        compiled = ov.Core().compile_model(ov.Model([op.result(doubled)], [given], "doubling"), "CPU")
        self.request = compiled.create_infer_request()
        self.tensors = Tensors(self.request, ["doubled"])

    def __call__(self, rows: Any) -> Any:
        given = np.array(rows, np.float32)
        self.tensors.write({"given": given})
        found = self.tensors.outputs(len(given))["doubled"]
        self.request.infer()
        return found


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


def address(array: Any) -> int:
    return int(array.ctypes.data)


class Interrupting:
    """A request that is interrupted, once, as it learns of a tensor: before or after."""

    def __init__(self, request: Any, when: str) -> None:
        self.request, self.when = request, when

    def set_tensor(self, *arguments: Any) -> None:
        when, self.when = self.when, ""
        if when == "before":
            raise KeyboardInterrupt
        self.request.set_tensor(*arguments)
        if when == "after":
            raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupt_leaves_no_other_input_than_is_written(doubling: Doubling, when: str, count: int) -> None:
    """What the request was not told of, or read instead, was written to: wrong logits, or a segmentation fault."""
    doubling([[1, 2]])
    doubling.tensors._request = Interrupting(doubling.request, when)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        doubling([[3, 4], [5, 6]])
    rows = [[7, 8], [9, 1]][:count]
    assert doubling(rows).tolist() == (2 * np.array(rows)).tolist()
    assert doubling.request.get_tensor("given").data.tolist() == rows


def test_an_interrupt_leaves_no_output_of_another_size(doubling: Doubling) -> None:
    """The number of rows was noted before the buffers of another one were dropped."""

    class Halting(Tensors):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_free" and hasattr(self, name):
                raise KeyboardInterrupt
            super().__setattr__(name, value)

    doubling([[1, 2]])
    doubling.tensors.__class__ = Halting
    with pytest.raises(KeyboardInterrupt):
        doubling.tensors.outputs(2)
    doubling.tensors.__class__ = Tensors
    assert doubling([[1, 2], [3, 4]]).tolist() == [[2, 4], [6, 8]]


def test_what_is_held_stays_as_it_is(doubling: Doubling) -> None:
    rows = [doubling([[number, 1]])[0] for number in range(5)]  # views of rows, not the arrays themselves
    assert [row.tolist() for row in rows] == [[0, 2], [2, 2], [4, 2], [6, 2], [8, 2]]


def test_an_output_that_nobody_holds_is_used_again(doubling: Doubling) -> None:
    first = address(doubling([[1, 2]]))
    gc.collect()
    second = doubling([[3, 4]])
    third = doubling([[5, 6]])
    assert address(second) == first != address(third)


def test_inputs_are_written_in_place_while_their_shape_stays(doubling: Doubling) -> None:
    given = np.array([[1, 2]], np.float32)
    doubling(given)
    bound = address(doubling.request.get_tensor("given").data)
    assert doubling([[3, 4]]).tolist() == [[6, 8]]
    assert address(doubling.request.get_tensor("given").data) == bound
    assert given.tolist() == [[1, 2]]  # the caller's array is copied, never written
    assert doubling([[1, 1], [2, 2]]).tolist() == [[2, 2], [4, 4]]
    assert doubling([[5, 5]]).tolist() == [[10, 10]]
