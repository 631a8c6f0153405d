"""`ovdecode generate`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ovdecode as od
from ovdecode.cli.options import parse_stop
from ovdecode.models import ModelFolder

SHELL = [sys.executable, "-c", "from ovdecode.cli import main; main()"]


def test_text_alone_on_standard_output(run):
    result = run("generate", "a", "--max-new-tokens", 5)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "bcabc", "")


def test_method_that_decides_at_the_end(run):
    assert run("generate", "a", "-s", "beam:num_beams=2", "--max-new-tokens", 4).stdout == "bcab"


@pytest.mark.parametrize("arguments", [["-"], []])
def test_prompt_from_standard_input(run, arguments):
    assert run("generate", *arguments, "--max-new-tokens", 2, input="b\n").stdout == "ca"


def test_standard_input_must_be_utf_8(run):
    result = run("generate", "-", input=b"a\n\xff")
    assert result.exit_code == 2
    assert "standard input must be UTF-8 text, but line 2 holds the byte 0xff" in result.stderr


def test_missing_prompt_on_a_terminal(run, monkeypatch):
    from ovdecode.cli.prompts import read_standard_input
    from ovdecode.errors import PromptError

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(PromptError, match="`PROMPT` must be given"):
        read_standard_input(None)


def test_stop_strings_and_specs(run):
    assert run("generate", "a", "--stop", "ca").stdout == "b"
    assert run("generate", "a", "--stop", "stop_tokens:sequences=[[1,2,0]]").stdout == "bca"
    assert run("generate", "a", "--stop", "abc", "--stop", "max_new_tokens:count=2").stdout == "bc"


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        (r"\n\n", r'stop_string:string="\n\n"'),
        (r"a\\n", r"stop_string:string=a\n"),
        ("eosin", "stop_string:string=eosin"),
        ("eos", "eos"),
        ("~eos", "~eos"),
        ("eos|max_time:seconds=3", "eos|max_time:seconds=3"),
        ("Note: this", 'stop_string:string="Note: this"'),
    ],
)
def test_what_is_text_and_what_is_a_spec(text, spec):
    assert str(parse_stop([text])) == spec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "gredy"], "error: unknown strategy `gredy`; did you mean `greedy`?"),
        (
            ["-s", "sampling:top_pp=1"],
            "unknown parameter of strategy `sampling`: `top_pp`; did you mean `top_p`",
        ),
        (["-s", "sampling:top_p=3"], "must be a number above 0 and at most 1, got 3"),
        (["--stop", "max_tim:seconds=3"], "unknown stopping `max_tim`; did you mean `max_time`"),
        (["--plugin", "none.py"], "`--plugin` must name a Python file, but `none.py` is none"),
    ],
)
def test_bad_input_is_one_line(run, arguments, message):
    result = run("generate", "a", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_empty_prompt(run):
    result = run("generate", "")
    assert result.exit_code == 2
    assert "`prompt` must have at least one token" in result.stderr


def test_missing_model_folder():
    result = subprocess.run([*SHELL, "generate", "a", "-m", "no/such/folder"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: `no/such/folder` must be an OpenVINO model folder")
    assert "Traceback" not in result.stderr


def test_options_reach_the_model(use_model, run):
    loads = use_model(od.Model(od.TableRunner([[0, 9], [9, 0]])))
    assert run("generate", "a", "--precision", "exact", "--threads", 3, "--max-new-tokens", 1).exit_code == 0
    assert loads == [{"source": "smollm2", "precision": "exact", "threads": 3, "device": "CPU"}]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_control_characters_do_not_reach_a_terminal(tmp_path: Path):
    import pty

    plugin = tmp_path / "evil.py"
    plugin.write_text(
        "import ovdecode as od, ovdecode.loading\n"
        "class Words:\n"
        "    special_ids = frozenset()\n"
        "    def encode(self, text, add_special_tokens=False): return [0]\n"
        "    def token_bytes(self, token): return b'\\x1b]0;title\\x07[bold]\\xc2\\x9b2J'\n"
        "ovdecode.loading.load = lambda *_, **__: od.Model(od.TableRunner([[0]]), tokenizer=Words())\n"
    )
    command = [*SHELL, "generate", "a", "--plugin", str(plugin), "--max-new-tokens", "1"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as child:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not piece:
                break
            shown += piece
        assert child.wait() == 0
    os.close(ours)
    assert shown.decode() == "␛]0;title␇[bold]\\u009b2J\r\n"
    piped = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert piped.stdout == b"\x1b]0;title\x07[bold]\xc2\x9b2J"


def test_real_model_in_a_pipe(smollm2_folder: ModelFolder):
    command = [*SHELL, "generate", "Once upon a time", "--max-new-tokens", "12", "--precision", "invariant"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    model = od.load("smollm2", precision="invariant")
    assert result.stdout == model.generate("Once upon a time", max_new_tokens=12).text
    assert result.stderr == ""


def test_conversation_with_the_real_model(smollm2_folder: ModelFolder):
    command = [*SHELL, "generate", "Say hello.", "--chat", "--max-new-tokens", "30"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "hello" in result.stdout.lower()
