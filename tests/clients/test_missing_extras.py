"""Without a harness's package, its module imports and the command says what to install."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from ovdecode.cli import app


def test_the_command_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr("ovdecode.clients.lm_eval.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["lm-eval", "--tasks", "any"])
    assert result.exit_code == 2
    assert "pip install 'ovdecode[lm-eval]'" in result.output


def test_the_modules_import_without_the_packages() -> None:
    code = """
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, package=None: None if name in ("lm_eval", "inspect_ai") else find(name, package)
import sys
sys.modules["lm_eval"] = sys.modules["inspect_ai"] = None
import ovdecode.clients.lm_eval, ovdecode.clients.inspect
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
