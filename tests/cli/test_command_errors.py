"""What the command line makes of errors that no command expects."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ovdecode.errors import ModelError

MAIN = [sys.executable, "-c", "from ovdecode.cli import main; main()"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("arguments", [["list", "proposer"], ["--version"], ["--help"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    """It was a traceback, or what Python says when it exits."""
    with open("/dev/full", "w") as full:
        result = subprocess.run([*MAIN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: it can't go on: [Errno 28] No space left on device\n"


def test_a_closed_standard_output_is_one_line() -> None:
    result = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *MAIN, "list"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr == "error: standard output is closed; send it somewhere: > /dev/null\n"


def test_a_pipe_that_nobody_reads_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*MAIN, "list"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert result.stderr == ""


@pytest.mark.parametrize("kind", [ImportError, ModelError])
def test_ctrl_c_counts_behind_any_error(run, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    """In an import it comes out as an ImportError."""

    def load(source: str, **options: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise kind("openvino can't be imported") from error

    monkeypatch.setattr("ovdecode.loading.load", load)
    result = run("generate", "a")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted\n"


def test_an_error_of_nobody_is_not_hidden(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(source: str, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ovdecode.loading.load", load)
    assert isinstance(run("generate", "a").exception, ZeroDivisionError)
