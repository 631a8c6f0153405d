"""What a class runs: the file as it was loaded, or the code of a notebook's cells."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ovdecode as od
from ovdecode import registry
from ovdecode.experiment.identity import method_version
from ovdecode.plugin_code import code_digest, source_of

CELL = """
import functools
from dataclasses import dataclass, field

import numpy as np
import ovdecode as od

WEIGHTS = (1.0, 2.0)
TABLE = {"a": np.array([1, 2])}

def chosen(token):
    return token + 0

@functools.cache
def cached(token):
    return token

class Base:
    def moved(self, token):
        return token

@od.register("of_a_cell")
@dataclass(frozen=True)
class Mine(od.Strategy, Base):
    size: int = 1
    words: tuple = field(default_factory=lambda: ("a",))

    @staticmethod
    def scaled(token):
        return token * 1

    def decode(self, prompt, stop, rng):
        yield prompt
        later = lambda token: cached(self.moved(token)) in {"x", "y", "z"}
        return prompt + chosen(self.scaled(int(WEIGHTS[0] + TABLE["a"][0])))
"""


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module without a file, in which cells are run."""
    module = ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", module)
    return module


def run_cell(notebook: ModuleType, cell: str, number: int = 1) -> Any:
    exec(compile(cell, f"<ipython-input-{number}>", "exec", dont_inherit=True), vars(notebook))
    return notebook.Mine


def test_a_cell_that_is_run_again_is_the_same_method(notebook: ModuleType):
    """A method of a notebook had its name for its version, and its results of before were those of the new code."""
    before = code_digest(run_cell(notebook, CELL))
    assert code_digest(run_cell(notebook, "\n# moved\n\n" + CELL, 2)) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("yield prompt", "yield prompt + 0"),
        ("token * 1", "token * 2"),
        ("size: int = 1", "size: int = 2"),
        ('("a",)', '("b",)'),
        ("return token + 0", "return token + 1"),
        ("        return token\n", "        return -token\n"),
        ("def cached(token):\n    return token", "def cached(token):\n    return 1"),
        ("(1.0, 2.0)", "(1.0, 3.0)"),
        ("array([1, 2])", "array([1, 3])"),
        ('{"x", "y", "z"}', '{"x", "y", "q"}'),
    ],
)
def test_a_cell_that_is_edited_is_another_method(notebook: ModuleType, old: str, new: str):
    assert old in CELL
    before = method_version(run_cell(notebook, CELL)())
    assert method_version(run_cell(notebook, CELL.replace(old, new))()) != before


def test_a_helper_that_is_edited_in_a_cell_of_its_own_makes_another_method(notebook: ModuleType):
    mine = run_cell(notebook, CELL)
    before = code_digest(mine)
    assert code_digest(run_cell(notebook, "def unused(): return 3")) == before
    assert code_digest(run_cell(notebook, "def chosen(token): return 0")) != before


def test_a_file_counts_as_it_was_when_it_was_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A result of the old code was kept as one of the file that had been edited since."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "edited_method.py"
    file.write_text(CELL)
    import edited_method  # type: ignore[import-not-found]

    before = method_version(edited_method.Mine())
    file.write_text(CELL + "# edited\n")
    linecache.checkcache()
    assert method_version(edited_method.Mine()) == before
    assert source_of(edited_method.Mine) == CELL


def test_a_class_that_is_typed_after_a_script_has_run_is_not_of_its_file(notebook: ModuleType):
    notebook.__file__ = __file__
    assert source_of(run_cell(notebook, CELL)) is None
    assert source_of(od.Greedy) is not None
