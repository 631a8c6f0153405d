"""What the README shows is run: its Python, in order, and its `ovdecode` commands, on the real model."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ovdecode.models import ModelFolder

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    commands
    for kind, block in BLOCKS
    if kind == "bash" and (commands := [line for line in block.splitlines() if line.startswith("ovdecode ")])
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the README says to save."""
    for _, block in BLOCKS:
        name = re.match(r"# (\w+\.(?:py|yaml))\n", block)
        if name:
            (tmp_path / name[1]).write_text(block)
    return tmp_path


def test_python(folder: Path, smollm2_folder: ModelFolder):
    code = "\n".join(block for kind, block in BLOCKS if kind == "python" and not block.startswith("# "))
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=300)


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda commands: commands[0])
def test_commands(commands: list[str], folder: Path, smollm2_folder: ModelFolder):
    program = [sys.executable, "-c", "from ovdecode.cli import main; main()"]
    for command in commands:
        result = subprocess.run(
            [*program, *shlex.split(command)[1:]], cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        assert result.stdout.strip() or result.stderr.strip(), command


def test_set_up_commands():
    assert "pip install '.[demo]' && ovdecode compare\npip install '.[test]' && pytest\n" in README


def test_the_table_of_methods_is_what_the_registry_says():
    program = [sys.executable, "-c", "from ovdecode.cli import main; main()"]
    listed = subprocess.run([*program, "list", "--markdown"], capture_output=True, text=True, check=True).stdout
    begin, end = "<!-- ovdecode list --markdown -->\n", "\n<!-- end -->"
    found = README.partition(begin)[2].partition(end)[0]
    assert found.strip() == listed.strip(), "run `ovdecode list --markdown` and put what it prints between the marks"
