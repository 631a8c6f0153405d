"""One inference that fails costs its own task, and nothing that comes after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_gguf import write_tiny

import ovdecode as od
from ovdecode.models import convert_gguf
from ovdecode.runners.pages import PageCopy


class Failing:
    """An infer request whose next inference fails, of which every wait tells until another one begins."""

    def __init__(self, request: Any) -> None:
        self._request, self._begun = request, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def start_async(self) -> None:
        self._begun += 1
        self._request.start_async()

    def wait(self) -> None:
        self._request.wait()
        if self._begun == 1:
            raise RuntimeError("no memory")


@pytest.fixture(params=["paged", "stateful", "explicit"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> od.Model:
    """A model whose first inference fails."""
    path = tmp_path_factory.mktemp("tiny")
    folder = convert_gguf(write_tiny(path / "tiny.gguf"), path / "model")
    model = od.load(folder, runner=request.param, threads=2, properties={"CACHE_DIR": ""})
    lane: Any = model.runner._lanes[False]  # type: ignore[attr-defined]
    holder, name = (lane.graph, "_request") if request.param == "paged" else (lane._memory, "request")
    setattr(holder, name, Failing(getattr(holder, name)))
    return model


def request(tiny: od.Model) -> od.Forward:
    return od.Forward(tiny.vocabulary.prompt([*range(7)]))


def test_the_next_one_after_a_failure(tiny: od.Model) -> None:
    """The error was raised again by every inference that came, for ever."""
    with pytest.raises(RuntimeError, match="no memory"):
        tiny.runner.forward([request(tiny)])
    for _ in range(2):
        assert np.isfinite(tiny.runner.forward([request(tiny)])[0].logits).all()


def test_the_next_one_after_a_failure_that_nobody_waited_for(tiny: od.Model) -> None:
    tiny.runner.submit([request(tiny)])
    assert np.isfinite(tiny.runner.forward([request(tiny)])[0].logits).all()


@pytest.mark.parametrize("tiny", ["paged"], indirect=True)
def test_pages_are_copied_after_a_failure(tiny: od.Model) -> None:
    with pytest.raises(RuntimeError, match="no memory"):
        tiny.runner.forward([request(tiny)])
    graph = tiny.runner._lanes[False].graph  # type: ignore[attr-defined]
    for array in graph.memory.arrays:
        array[:, 0], array[:, 1] = 1, 0
    graph.copy_pages([PageCopy(0, 1, 1)])
    for array in graph.memory.arrays:
        assert (array[:, 1, :, :1] == 1).all()
