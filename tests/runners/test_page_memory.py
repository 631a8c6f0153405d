"""The memory of the pages: what is copied of one, and where it is found by the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from ovdecode.runners.page_memory import CacheTooSmall, PageMemory

HEADS, TOKENS, WIDTH = 2, 4, 8


def graph(kind: Any, scales: int = 0) -> Any:
    """The sums over keys and over values of one layer; with `scales`, a page of keys has so many more rows."""
    ports = []
    for name, rows in (("key_cache.0", TOKENS + scales), ("value_cache.0", TOKENS)):
        ports.append(op.parameter([-1, HEADS, rows, WIDTH], kind, name=name))
        ports[-1].output(0).set_names({name})
    sums = [op.reduce_sum(op.convert(port, "f32"), np.array([1, 2, 3]), False) for port in ports]
    return ov.Model([op.result(each) for each in sums], ports, "sums")


def filled(kind: Any, scales: int = 0) -> PageMemory:
    """Every page holds its number."""
    memory = PageMemory(graph(kind, scales), 1 << 16)
    for array in memory.arrays:
        array[:] = np.arange(memory.pages).reshape(1, -1, 1, 1, 1)
    return memory


@pytest.mark.parametrize("kind", ["u8", "f32"])
def test_of_a_page_those_tokens_are_copied_that_are_asked_for(kind: str) -> None:
    memory = filled(getattr(ov.Type, kind))
    assert memory.rewritable
    memory.copy(3, 5, 2)
    for array in memory.arrays:
        assert (array[0, 5, :, :2] == 3).all()
        assert (array[0, 5, :, 2:] == 5).all()
        assert (array[0, [0, 4, 6]] == np.array([0, 4, 6]).reshape(3, 1, 1, 1)).all()


def test_a_page_that_is_quantised_as_a_whole_is_copied_whole() -> None:
    """Its scales are in further rows."""
    memory = filled(ov.Type.u8, scales=1)
    assert not memory.rewritable
    memory.copy(3, 5, 2)
    for array in memory.arrays:
        assert (array[0, 5] == 3).all()


@pytest.mark.parametrize("kind", ["u8", "f32"])
def test_the_memory_becomes_a_part_of_a_graph(kind: str) -> None:
    source = graph(getattr(ov.Type, kind))
    with PageMemory(source, 1 << 16).part_of(source):
        assert source.inputs == []


def test_an_inference_reads_what_was_written_after_the_memory_was_bound() -> None:
    memory = filled(ov.Type.f32)
    request = ov.Core().compile_model(graph(ov.Type.f32), "CPU").create_infer_request()
    memory.bind(request)
    for sums in request.infer().values():
        assert (sums == HEADS * TOKENS * WIDTH * np.arange(memory.pages)).all()
    memory.copy(3, 5, TOKENS)
    for sums in request.infer().values():
        assert sums[5] == sums[3] == HEADS * TOKENS * WIDTH * 3


def test_too_little_memory_is_refused() -> None:
    page = 2 * HEADS * TOKENS * WIDTH
    with pytest.raises(CacheTooSmall, match=f"must be at least {10 * page}, 10 pages of {page} bytes, got {page}"):
        PageMemory(graph(ov.Type.u8), page)
