"""Files with methods of somebody's own: what they may be, and what is left of one that fails."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path

import pytest

import ovdecode as od
from ovdecode import registry
from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.experiment.executors.station import read_plugins
from ovdecode.experiment.identity import method_version
from ovdecode.plugin_files import load_plugin, load_plugin_file

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Optional
import ovdecode as od

@od.register("{name}")
@dataclass(frozen=True)
class {kind}(od.Strategy):
    size: Optional[int] = 1

    def decode(self, prompt, stop, rng):
        yield prompt
        return prompt + {token}
"""


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded in a test is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(linecache, "cache", dict(linecache.cache))


def written(folder: Path, name: str, kind: str, token: int) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "method.py"
    file.write_text(SOURCE.format(name=name, kind=kind, token=token))
    return file


def test_two_files_of_one_name_stand_beside_each_other(tmp_path: Path):
    """The second took the module of the first: its annotations and its source were looked up in the wrong file."""
    load_plugin_file(written(tmp_path / "a", "in_a", "A", 0))
    other = written(tmp_path / "b", "in_b", "B", 1)
    other.write_text(other.read_text().replace("Optional[int]", "int").replace("from typing import Optional", ""))
    load_plugin_file(other)
    assert od.parse("in_a:size=3").size == 3  # type: ignore[attr-defined]
    assert method_version(od.parse("in_a")) != method_version(od.parse("in_b"))


def test_a_file_that_is_edited_after_it_was_loaded_is_what_was_loaded(tmp_path: Path):
    file = written(tmp_path, "edited", "A", 0)
    load_plugin_file(file)
    before = method_version(od.parse("edited"))
    written(tmp_path, "edited", "A", 1)
    assert method_version(od.parse("edited")) == before
    load_plugin_file(file)  # of the same size and second: byte code that was kept would be of the old one
    assert method_version(od.parse("edited")) != before
    model = od.Model(od.TableRunner([[0.0, 1.0], [1.0, 0.0]]))
    assert model.generate([0], "edited").tokens == (1,)


def test_what_goes_as_text_is_what_the_file_says(tmp_path: Path):
    file = written(tmp_path, "as_text", "A", 0)
    load_plugin_file(file)
    here = method_version(od.parse("as_text"))
    ((path, text),) = read_plugins([file])
    file.unlink()
    load_plugin(path, text)
    assert method_version(od.parse("as_text")) == here


def test_a_file_may_say_how_it_is_encoded(tmp_path: Path):
    file = tmp_path / "latin.py"
    file.write_bytes("# -*- coding: latin-1 -*-\nimport sys\nsys.said_in_latin = 'é'\n".encode("latin-1"))
    load_plugin_file(file)
    assert vars(sys).pop("said_in_latin") == "é"
    file.write_bytes(b"# -*- coding: none-such -*-\n")
    with pytest.raises(ConfigurationError, match=r"`.*latin.py` must be a Python file, but it can't be read: unknown"):
        load_plugin_file(file)


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("raise OSError('no disk')", r"`.*method.py` must be .*OSError: no disk \(method.py:15\)"),
        ("import sys; sys.exit(3)", r"`.*method.py` must be .*, but: SystemExit: 3 \(method.py:15\)"),
        ("class", r"`.*method.py` must be a Python file that runs, but: SyntaxError"),
    ],
)  # fmt: skip
def test_nothing_is_left_of_a_file_that_fails(tmp_path: Path, ending: str, message: str):
    file = written(tmp_path, "half", "A", 0)
    file.write_text(file.read_text() + ending)
    modules, path = set(sys.modules), list(sys.path)
    with pytest.raises(ConfigurationError, match=message):
        load_plugin_file(file)
    assert set(sys.modules) == modules
    assert sys.path == path
    with pytest.raises(UnknownNameError):
        od.parse("half")
    file.write_text(file.read_text().removesuffix(ending))
    load_plugin_file(file)
    assert od.parse("half").name == "half"


def test_a_dataclass_that_is_not_frozen_is_told_by_its_own_line(tmp_path: Path):
    """The line of `dataclasses.py` was shown."""
    file = tmp_path / "thawed.py"
    file.write_text(SOURCE.format(name="thawed", kind="A", token=0).replace("(frozen=True)", ""))
    line = 8 if sys.version_info >= (3, 11) else 9  # of the decorator, or of the class
    with pytest.raises(ConfigurationError, match=rf"cannot inherit non-frozen .*\(thawed.py:{line}\)$"):
        load_plugin_file(file)
