"""Importing is cheap: nothing heavy is loaded before it is used, and no model is run."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ovdecode

HEAVY = ("openvino", "openvino_genai", "openvino_tokenizers", "transformers", "torch", "tokenizers", "gguf")
REPORT = f"import sys; print(*(name for name in {HEAVY} if name in sys.modules))"


def loaded(code: str) -> set[str]:
    """The heavy modules that are loaded in a fresh interpreter once the code has run."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split()) if run.stdout.strip() else set()


def test_the_report_tells_what_is_loaded() -> None:
    assert "openvino" in loaded("import openvino")


def test_importing_loads_nothing_heavy() -> None:
    assert loaded("import ovdecode") == set()


def test_every_public_name_is_there_and_none_loads_anything_heavy() -> None:
    assert loaded("import ovdecode\nfor name in ovdecode.__all__: getattr(ovdecode, name)") == set()


def test_every_plugin_is_built_without_anything_heavy() -> None:
    code = """
import dataclasses
from ovdecode.registry import GROUPS, broken, lookup, names
from ovdecode.spec import parameters
samples = [1, 0.5, -0.5, "small", ["small"], [1], [[1]], [(1, 0.5)], [([1], 0.5)], print, 'start: "a"']
samples.append(lookup("processor", "regex")("a"))
for family in GROUPS:
    assert not broken(family), broken(family)
    for name in names(family):
        plugin = lookup(family, name)
        known = parameters(plugin)
        needed = [key for key, default in known.items() if default is dataclasses.MISSING]
        built = []
        for keys in [needed, *([*needed, key] for key in known)]:  # one that is not needed may be one of two that are
            for sample in [] if built else samples:
                try:
                    built.append(plugin(**dict.fromkeys(keys, sample)))
                except ValueError:
                    continue
        assert built, name
        print(name)
        assert repr(built[0])
"""
    assert loaded(code) == set()


def test_a_table_is_decoded_without_anything_heavy() -> None:
    code = """
import ovdecode as od
model = od.Model(od.TableRunner([[0.0, 1.0], [1.0, 0.0]]))
assert model.generate([0], max_new_tokens=2).tokens == (1, 0)
"""
    assert loaded(code) == set()


def test_the_command_line_shows_its_help_without_anything_heavy() -> None:
    code = """
from ovdecode.cli import main
import sys

import pytest

import ovdecode
sys.argv = ["ovdecode", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end
print()
"""
    assert loaded(code) == set()


def test_importing_runs_no_model() -> None:
    code = """
import importlib, pkgutil
import openvino
def refuse(*args, **kwargs):
    raise AssertionError("a model was compiled at import")
openvino.Core.compile_model = refuse
openvino.Core.read_model = refuse
import ovdecode
for module in pkgutil.walk_packages(ovdecode.__path__, "ovdecode."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    loaded(code)


def test_completion_offers_the_public_names_and_loads_nothing_heavy() -> None:
    code = """
import ovdecode
offered = {"Task", "load", "Sampling", "TopP", "MaxTime", "experiment", "testing", *ovdecode.__all__}
assert not offered - set(dir(ovdecode))
"""
    assert loaded(code) == set()


def test_public_modules_are_there_once_the_package_is_imported() -> None:
    code = """
import ovdecode
names = ovdecode.experiment.Experiment, ovdecode.testing.check_strategy, ovdecode.errors.PromptError
names += (ovdecode.models.locate,)
"""
    assert loaded(code) <= {"tokenizers"}


def test_a_base_class_is_found_by_its_last_word() -> None:
    with pytest.raises(AttributeError, match="no attribute `Processor`; did you mean `LogitsProcessor`"):
        ovdecode.Processor  # noqa: B018
