"""`ovdecode list`, `fetch`, and what belongs to no command."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import dataclass, fields

import pytest

import ovdecode as od
from ovdecode import registry
from ovdecode.cli.list_plugins import _parameters, source_of, summary_of
from ovdecode.models import ModelFolder


def test_every_plugin_in_one_line(run):
    lines = run("list").stdout.splitlines()
    for family in registry.GROUPS:
        for name in registry.names(family):
            summary = summary_of(registry.lookup(family, name))  # a utility and a metric may have one name
            assert len([line for line in lines if line.startswith(f"  {name}  ") and summary in line]) == 1, name
    assert any("temperature=none, top_k=none" in line for line in lines)
    assert any("count=…" in line for line in lines)


def test_our_plugins_have_a_summary_and_a_source():
    for family in registry.GROUPS:
        for name in registry.names(family):
            plugin = registry.lookup(family, name)
            if plugin.__module__.startswith("ovdecode.strategies."):
                assert summary_of(plugin).endswith("."), name
                assert source_of(plugin), name


@pytest.mark.parametrize("family", registry.GROUPS)
def test_our_plugins_have_a_law_an_example_and_every_parameter_explained(family):
    """Drafts and measurements have no law of their own."""
    for name in registry.names(family):
        plugin = registry.lookup(family, name)
        if not plugin.__module__.startswith("ovdecode.strategies."):
            continue
        doc = inspect.cleandoc(plugin.__doc__)
        assert "\nLaw: " in doc or "\nLaw, " in doc or family in ("proposer", "metric"), name
        assert re.search(r"^Example:\n    >>> ", doc, re.M), name
        inherited = "\n".join(inspect.cleandoc(each.__doc__ or "") for each in plugin.__mro__)
        for field in fields(plugin):
            explained = rf"^    (\w+, )*{field.name}(, \w+)*: "
            assert not field.init or re.search(explained, inherited, re.M), f"{name}: {field.name}"


def test_values_are_shown_as_a_spec_has_them(run):
    listed = run("list").stdout
    assert r'sequence_breakers=["\n",":","\"",*]' in listed
    assert "widths=[3,2,1,1]" in listed
    assert "preset=none|hf|llama.cpp|genai|vllm|fairseq" in listed
    assert "early_stopping=false|true|never" in listed
    assert "strategy=(sampling)" in listed


def test_no_source_is_cut_short():
    for family in registry.GROUPS:
        for name in registry.names(family):
            source = source_of(registry.lookup(family, name))
            assert source.count("(") == source.count(")"), source
            assert source.count("`") % 2 == 0, source
            assert "…" not in source


def test_a_name_from_another_project_is_understood(run):
    assert "unknown family or plugin `nucleus`; did you mean `top_p`" in run("list", "nucleus").stderr


def test_one_family_and_one_plugin(run):
    assert "greedy" not in run("list", "proposer").stdout
    assert run("list", "processors").stdout == run("list", "processor").stdout
    assert "Lowerre 1976" in run("list", "beam").stdout
    result = run("list", "stoping")
    assert result.exit_code == 2
    assert "did you mean `stopping`" in result.stderr


def test_one_plugin_has_no_table(run):
    result = run("list", "beam", "--markdown")
    assert result.exit_code == 2
    assert "`--markdown` must come without a plugin or with a family, got `beam`" in result.stderr
    assert run("list", "proposer", "--markdown").stdout.startswith("### Proposers")


def test_parameters_that_a_base_class_explains_are_explained(run):
    shown = run("list", "diverse_beam").stdout
    assert shown.index("num_beam_groups: how many groups") < shown.index("Args, as of its base classes:")
    assert shown.index("Args, as of its base classes:") < shown.index("num_beams: width of the search")
    assert run("list", "sampling").stdout.count("processors: applied") == 1  # it explains its own


def test_broken_plugins_are_reported(run, monkeypatch):
    monkeypatch.setitem(registry._broken, ("strategy", "odd"), ImportError("no [module] x"))
    result = run("list", "strategy")
    assert result.exit_code == 0
    assert "odd does not load: ImportError('no [module] x')" in result.stdout
    assert "greedy" in result.stdout


@pytest.mark.parametrize(
    ("doc", "summary", "source"),
    [
        ("Adds.", "Adds.", ""),
        ("Adds\n    two.\n\n    Source: Doe and Roe 1999, \"Add\"; Poe.\n", "Adds two.", "Doe and Roe 1999"),
        ("Adds.\n    Source: folklore; of old.\n    Args:\n        a: b", "Adds.", "folklore"),
        ("Adds.\n    Sources: a long\n    way to Doe 1999.", "Adds.", "a long way to Doe 1999"),
        ("Adds.\n\n    Source: pull request 5 (Doe, 2025), merged.", "Adds.", "pull request 5 (Doe, 2025)"),
        ("Adds.\n\n    Source: plain adding; as in Doe 1999.", "Adds.", "plain adding"),
        ("Adds.\n\n    Source: Roe's `add` (one) and Poe's. Both cite Doe 1999.", "Adds.", "Roe's `add`"),
        ("Adds.\n\n    Source: J. Doe et al. 1999, \"Add\".", "Adds.", "J. Doe et al. 1999"),
        ("Adds.\n\n    Source: Doe, " + "Roe, " * 20 + "Poe 1999.", "Adds.", "Doe et al. 1999"),
    ],
)  # fmt: skip
def test_docstrings_are_read_robustly(doc, summary, source):
    plugin = type("Adder", (od.Strategy,), {"__doc__": doc})
    assert (summary_of(plugin), source_of(plugin)) == (summary, source)


def test_no_docstring():
    @dataclass(frozen=True)
    class Silent(od.Strategy):
        width: int = 3

    assert summary_of(Silent) == ""


def test_a_plugin_with_an_annotation_that_cannot_be_resolved_is_listed():
    @dataclass(frozen=True)
    class Theirs(od.Strategy):
        width: Unseen = 3  # noqa: F821
        depth: int = 2

    assert list(_parameters(Theirs)) == ["width=3", "depth=2"]


def test_fetch_prints_the_folder(run, smollm2_folder: ModelFolder):
    assert run("fetch").stdout == f"{smollm2_folder.path}\n"
    assert run("fetch", "--weights", "int3").exit_code == 2


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from ovdecode.cli import app; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "heavy = {'numpy', 'openvino', 'transformers', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version(run):
    assert run("--version").stdout.startswith("ovdecode ")
