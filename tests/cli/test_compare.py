"""`ovdecode compare`."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import ovdecode as od
from ovdecode.cli.batch import run_batch
from ovdecode.cli.comparison import DEFAULT_STRATEGIES, Comparison, mean
from ovdecode.cli.console import console, printable
from ovdecode.cli.screen import show_table, show_texts
from ovdecode.errors import PrecisionError
from ovdecode.models import ModelFolder

SHELL = [sys.executable, "-c", "from ovdecode.cli import main; main()"]
FAILING = """
from dataclasses import dataclass
import ovdecode as od

@od.register("failing")
@dataclass(frozen=True)
class Failing(od.Strategy):
    '''Divides by zero after the first answer.'''

    def decode(self, prompt, stop, rng):
        yield prompt
        1 / 0
"""
INTERRUPTED = """
import sys
from dataclasses import dataclass
import ovdecode as od, ovdecode.loading

ovdecode.loading.load = lambda *_, **__: od.Model(od.TableRunner([[0, 9], [9, 0]]))

@od.register("endless")
@dataclass(frozen=True)
class Endless(od.Strategy):
    def decode(self, prompt, stop, rng):
        count = 0
        while True:
            yield prompt
            count += 1
            if count == 100:
                print("under way", file=sys.stderr, flush=True)
"""


def test_texts_table_and_exit_code(run):
    result = run("compare", "a", "-s", "greedy", "-s", "speculative", "--max-new-tokens", 9)
    assert result.exit_code == 0
    assert result.stdout.count("bcabcabca") == 2
    assert "All together: 2 generations, 18 tokens" in result.stdout
    assert "acceptance" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_record(run, tmp_path: Path):
    file = tmp_path / "out.json"
    arguments = [
        "compare",
        "a",
        "b",
        "-s",
        "greedy",
        "-s",
        "beam:num_return_sequences=2,num_beams=2",
        "-n",
        2,
    ]
    assert run(*arguments, "--seed", 5, "--max-new-tokens", 3, "--json", file).exit_code == 0
    record = json.loads(file.read_text())
    assert record["format"] == "ovdecode.compare/1"
    assert set(record["versions"]) == {"ovdecode", "openvino", "numpy", "python"}
    assert record["model"] == {
        "name": "table", "runner": "table", "precision": "exact", "vocab_size": 3, "context_length": None,
    }  # fmt: skip
    assert record["options"] == {
        "model": "smollm2", "device": "CPU", "threads": None, "max_new_tokens": 3, "stop": None, "seed": 5,
        "samples": 2, "chat": False,
    }  # fmt: skip
    assert record["prompts"] == ["a", "b"]
    assert record["interrupted"] is False
    assert record["tokens"] == 2 * 2 * 2 * 3
    generations = record["generations"]
    assert [one["index"] for one in generations] == list(range(8))
    assert [one["sample"] for one in generations] == [0, 1] * 4
    assert [one["prompt"] for one in generations] == ["a"] * 4 + ["b"] * 4
    first = generations[0]
    assert (first["text"], first["tokens"], first["strategy"]) == ("bca", [1, 2, 0], "greedy")
    assert first["reason"] == {"name": "max_new_tokens", "detail": "3"}
    assert first["error"] is None
    assert len(first["logprobs"]) == 3
    assert first["cost"]["forwards"] == 3
    assert len(generations[2]["alternatives"]) == 2
    assert [each["strategy"] for each in record["figures"]] == record["strategies"]
    assert record["figures"][0]["distinct_2"] == 1.0
    assert record["figures"][0]["repetition"] is None  # three tokens have no 4-gram, and JSON has no NaN
    assert list(tmp_path.iterdir()) == [file]


def test_equal_samples_are_shown_once(run):
    result = run("compare", "a", "-s", "greedy", "-n", 3, "--max-new-tokens", 3)
    assert "1–3: bca" in result.stdout


def test_failed_method_leaves_the_others_alone(run, tmp_path: Path):
    plugin, file = tmp_path / "failing.py", tmp_path / "out.json"
    plugin.write_text(FAILING)
    arguments = ["compare", "a", "-s", "failing", "-s", "greedy", "--plugin", plugin, "--max-new-tokens", 3]
    result = run(*arguments, "--json", file)
    assert result.exit_code == 1
    assert "error: ZeroDivisionError: division by zero (failing.py:12)" in result.stdout
    assert "bca" in result.stdout
    assert "1 of 1 failed" in result.stdout
    assert json.loads(file.read_text())["generations"][0]["error"]["type"] == "ZeroDivisionError"


def test_plugin_that_does_not_run(run, tmp_path: Path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("\nimport no_such_module\n")
    result = run("compare", "a", "--plugin", plugin)
    assert result.exit_code == 2
    assert "No module named 'no_such_module' (broken.py:2)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_prompt_files(run, tmp_path: Path):
    def prompts_of(name: str, content: str | bytes, *arguments: str) -> list[str]:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "out.json"
        result = run("compare", "-s", "greedy", "--max-new-tokens", 1, "--prompts", file, "--json", out, *arguments)
        assert result.exit_code == 0, result.stderr
        return json.loads(out.read_text())["prompts"]

    assert prompts_of("lines.txt", "\ufeffa\r\n\r\nb\n") == ["a", "b"]
    assert prompts_of("lines.txt", "a\nb\nc\n", "--limit", "2") == ["a", "b"]
    assert prompts_of("lines.txt", "b\n", "a") == ["a", "b"]
    assert prompts_of("one.jsonl", '{"prompt":"a"}\n{"question":"b"}\n{"text":"c"}\n{"turns":["ba"]}') == [
        "a", "b", "c", "ba",
    ]  # fmt: skip
    assert prompts_of("field.jsonl", '{"prompt": "a", "body": "b"}', "--field", "body") == ["b"]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("none.txt", None, [], "`prompts` must name a file, but"),
        ("empty.txt", b" \n\n", [], "must hold at least one prompt, but it is empty"),
        ("latin.txt", "a\nÄ".encode("latin-1"), [], "must be UTF-8 text, but line 2 holds the byte 0xc4"),
        ("a.jsonl", b'{"body": "a"}', [], "`turns`, but it has `body`; name one with `field`"),
        ("a.jsonl", b'{"body": "a"}', ["--field", "bdy"], "must have the field `bdy`, but it has `body`"),
        ("a.jsonl", b'{"text": "a"}\n{"text"', [], "line 2 of "),
        ("a.jsonl", b'{"text": 3}', [], "must be a text that is not empty, but it is 3"),
        ("a.jsonl", b"[1]", [], "must be a JSON object, but it is list"),
        ("a.txt", b"a", ["--field", "bdy"], "must have the field `bdy`, but it has `text`"),
    ],
)
def test_bad_prompt_files(run, tmp_path: Path, name, content, arguments, message):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    result = run("compare", "--prompts", file, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_target_is_checked_before_decoding(run, tmp_path: Path):
    result = run("compare", "a", "--json", tmp_path / "missing" / "out.json")
    assert result.exit_code == 2
    assert "`--json` must name a file that can be written" in result.stderr


def test_a_dash_is_no_file(run):
    result = run("compare", "a", "--json", "-")
    assert result.exit_code == 2
    assert "`--json` must name a file, got `-`; standard output is `--json /dev/stdout`" in result.stderr


def test_a_dash_reads_a_prompt_from_standard_input(run, tmp_path: Path):
    file = tmp_path / "out.json"
    result = run("compare", "a", "-", "-s", "greedy", "--max-new-tokens", 1, "--json", file, input="b\n")
    assert result.exit_code == 0, result.stderr
    assert json.loads(file.read_text())["prompts"] == ["a", "b"]


def test_a_record_goes_through_links_and_into_pipes(run, tmp_path: Path):
    """It took the place of whatever had the name."""
    link, pipe, file = tmp_path / "link.json", tmp_path / "pipe", tmp_path / "out.json"
    link.symlink_to(file)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for target in (link, pipe):
        result = run("compare", "a", "-s", "greedy", "--max-new-tokens", 1, "--json", target)
        assert result.exit_code == 0, result.stderr
    assert link.is_symlink()
    assert json.loads(file.read_text())["prompts"] == json.loads(os.read(reader, 1 << 16))["prompts"] == ["a"]
    os.close(reader)
    assert sorted(tmp_path.iterdir()) == [link, file, pipe]


def test_a_record_that_cannot_be_written_costs_nothing_else(run, monkeypatch, tmp_path: Path):
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ovdecode.models.atomic.os.replace", full)
    result = run("compare", "a", "-s", "greedy", "--max-new-tokens", 3, "--json", tmp_path / "out.json")
    assert result.exit_code == 2
    assert "bca" in result.stdout
    assert result.stderr.startswith("error: `--json` must name a file that can be written, but: ")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_shown_is_recorded(run, monkeypatch, tmp_path: Path):
    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("ovdecode.cli.screen.show_texts", closed)
    run("compare", "a", "-s", "greedy", "--max-new-tokens", 3, "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["prompts"] == ["a"]


def test_falls_back_to_fast_where_invariant_cannot_be(run, monkeypatch):
    def load(source: str, precision: str, **options: object) -> od.Model:
        if precision != "fast":
            raise PrecisionError("it can't be paged")
        return od.Model(od.TableRunner([[0, 9], [9, 0]]))

    monkeypatch.setattr("ovdecode.loading.load", load)
    result = run("compare", "a", "-s", "greedy", "--max-new-tokens", 2)
    assert result.exit_code == 0
    assert result.stderr.startswith("note: precision `fast` is used")
    assert run("compare", "a", "--precision", "exact").exit_code == 2


def comparison(model: od.Model, strategies: list[str], **options: int) -> Comparison:
    tasks = [od.Task(model, "a", strategy, **options) for strategy in strategies]
    return Comparison(model, ["a"], strategies, 1, run_batch(tasks))


def texts_and_table(shown: Comparison, width: int, terminal: bool) -> str:
    file = io.StringIO()
    options = {"markup": False, "emoji": False, "highlight": False, "no_color": True, "color_system": None}
    screen = Console(file=file, force_terminal=terminal, width=width, **options)  # type: ignore[arg-type]
    show_texts(shown, screen, 6)
    show_table(shown, screen)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_model_output_is_data(words, width: int, terminal: bool):
    evil = b"\x1b[31mred\x07 [bold]x[/bold] \xe2\x80\xae:smile:"
    model = od.Model(od.TableRunner([[0]]), tokenizer=words(evil))
    text = texts_and_table(comparison(model, ["greedy", "sampling"], max_new_tokens=1), width, terminal)
    assert not {"\x07", "\u202e", "\x1b"} & set(text)
    for literal in ("␛[31mred␇", "[bold]x[/bold]", ":smile:"):
        assert text.count(literal) == 2


def test_as_many_texts_beside_each_other_as_there_is_room_for():
    def across(width: int) -> int:
        return texts_and_table(shown, width, True).splitlines()[2].count("╭")

    shown = comparison(od.Model(od.TableRunner([[0]])), ["greedy"] * 6, max_new_tokens=2)
    assert [across(width) for width in (60, 80, 120, 200, 240)] == [1, 2, 3, 3, 6]


@pytest.mark.parametrize(("width", "left_out"), [(40, 4), (60, 2), (80, 0), (120, 0)])
def test_a_narrow_table_has_every_method_and_whole_figures(width: int, left_out: int):
    """At 40 columns it had no method, and heads were cut to `tok…`."""
    heads = ["tokens", "tokens/s", "forwards", "log-prob", "distinct-2", "repetition"]
    shown = comparison(od.Model(od.TableRunner([[0]])), ["greedy", "beam:num_beams=4"], max_new_tokens=2)
    for one in shown.figures:
        object.__setattr__(one, "tokens_per_second", 99.9)
    file = io.StringIO()
    show_table(shown, Console(file=file, force_terminal=True, width=width, color_system=None, highlight=False))
    text = file.getvalue()
    table = text.partition("All together")[0]
    assert "…" not in table
    assert "greedy" in table
    assert "beam:num_beams=4" in table
    assert all(row.rstrip() == row[:-1] for row in table.splitlines() if "beam" in row)  # nothing is cut off
    said = " ".join(text.partition("Left out on a narrow screen: ")[2].split())
    assert said == (", ".join(heads[-left_out:]) + "." if left_out else "")


def test_one_generation_is_one(run):
    assert "All together: 1 generation, 2 tokens" in run("compare", "a", "-s", "greedy", "--max-new-tokens", 2).stdout


def test_printable():
    assert printable("a\tb\nc") == "a\tb\nc"
    assert printable("\r\x00\x7f\x85\u2028") == "␍␀␡\\u0085\\u2028"
    assert printable("नमस्\u200dते 👩\u200d🚀") == "नमस्\u200dते 👩\u200d🚀"


def test_no_colour_without_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert console().is_terminal is False


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path):
    plugin, file = tmp_path / "endless.py", tmp_path / "out.json"
    plugin.write_text(INTERRUPTED)
    command = [*SHELL, "compare", "a", "-s", "greedy", "-s", "endless", "--plugin", str(plugin)]
    command += ["--max-new-tokens", "4", "--json", str(file)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert child.stderr.readline() == "under way\n"
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "baba" in stdout
    assert "(not finished)" in stdout
    assert stderr == "error: interrupted; 1 of 2 generations were finished and are kept\n"
    record = json.loads(file.read_text())
    assert record["interrupted"] is True
    assert [one["text"] for one in record["generations"]] == ["baba"]
    assert [each["finished"] for each in record["figures"]] == [1, 0]


def test_defaults_on_the_real_model(smollm2_folder: ModelFolder, tmp_path: Path):
    file = tmp_path / "out.json"
    command = [*SHELL, "compare", "--max-new-tokens", "16", "--json", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    record = json.loads(file.read_text())
    assert record["strategies"] == list(DEFAULT_STRATEGIES)
    assert len(record["generations"]) == 3 * 6
    assert all(one["error"] is None and one["tokens"] for one in record["generations"])
    texts = {(one["prompt"], one["strategy"]): one["text"] for one in record["generations"]}
    for prompt in record["prompts"]:
        assert texts[prompt, "greedy"] == texts[prompt, "speculative"]
        assert texts[prompt, "greedy"].strip().splitlines()[0] in result.stdout
    by_strategy = {each["strategy"]: each for each in record["figures"]}
    assert by_strategy["speculative"]["forwards"] < by_strategy["greedy"]["forwards"]
    assert result.stderr == ""


def test_the_mean_leaves_out_what_is_no_number():
    assert mean([1, math.nan, 2]) == 1.5
    assert math.isnan(mean([]))
