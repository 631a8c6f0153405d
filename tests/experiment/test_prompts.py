"""Where prompts come from, and what is said of files that hold none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovdecode.errors import ConfigurationError, OvdecodeError, PromptError, UnknownNameError
from ovdecode.experiment import Prompts
from ovdecode.experiment.rows import LONGEST


def texts(value: Any, folder: Path = Path()) -> list[str]:
    return [prompt.text for prompt in Prompts.of(value, folder).read()]


def test_a_list_is_the_prompts_themselves():
    prompts = Prompts.of(["tea", "rice"]).read()
    assert [(one.index, one.text, one.messages, one.references) for one in prompts] == [
        (0, "tea", None, ()), (1, "rice", None, ()),
    ]  # fmt: skip
    assert prompts[0].content == "tea"


def test_files(tmp_path: Path):
    (tmp_path / "lines.txt").write_text('\ufefftea\r\n\r\nrice, "and" more\n')
    (tmp_path / "objects.jsonl").write_text('{"question": "tea"}\n\n{"question": "ri\u2028ce", "answer": 4}\n')
    (tmp_path / "table.csv").write_text('question,answer\ntea,1\n"ri\nce, ""more""",2\n')
    (tmp_path / "table.tsv").write_text("question\tanswer\ntea\t1\n")
    assert texts("lines.txt", tmp_path) == ["tea", 'rice, "and" more']
    assert texts("objects.jsonl", tmp_path) == ["tea", "ri\u2028ce"]
    assert texts("table.csv", tmp_path) == ["tea", 'ri\nce, "more"']
    assert texts({"file": "table.tsv", "field": "answer"}, tmp_path) == ["1"]


def test_template_chat_lines_and_references(tmp_path: Path):
    rows = [{"q": f"{n}+{n}?", "a": str(2 * n), "many": ["x", "y"]} for n in range(5)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    value = {"file": "sums.jsonl", "template": "Q: {q} {{}}\nA:", "lines": "1:3", "references": "a", "chat": True}
    prompts = Prompts.of(value, tmp_path).read()
    assert [(one.index, one.text, one.references) for one in prompts] == [
        (0, "Q: 1+1? {}\nA:", ("2",)), (1, "Q: 2+2? {}\nA:", ("4",)),
    ]  # fmt: skip
    assert prompts[0].content == [{"role": "user", "content": "Q: 1+1? {}\nA:"}]
    assert Prompts.of({**value, "references": "many"}, tmp_path).read()[0].references == ("x", "y")
    (tmp_path / "answers.txt").write_text("0\n2\n4\n6\n8\n")
    beside = {"file": "sums.jsonl", "field": "q", "references_file": "answers.txt", "lines": "3:"}
    assert [one.references for one in Prompts.of(beside, tmp_path).read()] == [("6",), ("8",)]


def test_a_field_may_hold_a_conversation(tmp_path: Path):
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Tea?"}]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"prompt": messages}))
    (prompt,) = Prompts.of("talk.jsonl", tmp_path).read()
    assert prompt.content == messages
    assert prompt.text == "Tea?"


def test_what_a_model_reads_decides_the_digest():
    plain, chat = Prompts.of(["tea"]), Prompts.of({"texts": ["tea"], "chat": True})
    answered = Prompts.of({"texts": ["tea"], "references": ["yes"]})
    assert plain.read()[0].digest == answered.read()[0].digest != chat.read()[0].digest


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", None, {}, r"must name a file, but .*a.txt` is none; check the path"),
        ("a.txt", b" \n\n", {}, "must hold at least one prompt, but it is empty"),
        ("a.txt", b"tea\n\xff\xfe", {}, "must be UTF-8 text, but line 2 holds the byte 0xff"),
        ("a.jsonl", b'{"body": "tea"}', {}, "line 1 of .* but it has `body`; name one with `field`"),
        ("a.jsonl", b'{"text": "tea"}\n{"body": 1}', {"field": "text"}, "line 2 of .*must have the field `text`"),
        ("a.jsonl", b'{"text": "tea"}\n{"text": ', {}, "line 2 of .* must be a JSON object, but it is not JSON"),
        ("a.jsonl", b'{"text": "  "}', {}, "must be a text that is not empty, but it is '  '"),
        ("a.jsonl", b'{"text": "\\ud800"}', {}, "half a surrogate pair"),
        ("a.jsonl", b"[" * 100_000, {}, "not JSON"),
        ("a.jsonl", b'{"text": "t"}', {"template": "{txt}"}, "not `txt`: unknown field `txt`; did you mean `text`"),
        ("a.jsonl", b'{"text": "t"}', {"template": "{text.__class__}"}, "must name a field of line 1"),
        ("a.jsonl", b'{"text": "t"}', {"template": "{text!r:>9}"}, "must name a field of line 1"),
        ("a.jsonl", b'{"text": "t"}', {"template": "{text"}, "must be text with fields in braces"),
        ("a.jsonl", b'{"text": "t"}', {"references": "answer"}, "`references` must name a field of line 1"),
        ("a.csv", b"text,answer\ntea", {}, "must have a value for each of `text`, `answer`"),
        ("a.csv", b"text,answer\ntea,1,2", {}, "must have a value for each of `text`, `answer`"),
        ("a.csv", b'text\n"tea', {}, "must be a row of comma-separated values, but"),
        ("a.txt", b"tea\nrice", {"lines": "1:3"}, "must be a range within the 2 prompts that there are, got '1:3'"),
        ("a.txt", b"tea\nrice", {"lines": "first"}, "must be a range, such as 0:50, got 'first'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes | None, options: dict[str, Any], message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(OvdecodeError, match=message):
        Prompts.of({"file": name, **options}, tmp_path).read()


def test_a_prompt_of_ten_megabytes_is_refused_with_its_line(tmp_path: Path):
    (tmp_path / "long.jsonl").write_text('{"text": "tea"}\n' + json.dumps({"text": "x" * 10_000_000}))
    message = "`text` in line 2 of .* must have at most 4,000,000 characters, but it has 10,000,000; shorten"
    with pytest.raises(PromptError, match=message):
        texts("long.jsonl", tmp_path)
    (tmp_path / "long.txt").write_text("x" * (LONGEST + 1))
    with pytest.raises(PromptError, match="line 1 of"):
        texts("long.txt", tmp_path)
    # What is not read may be as long as it likes.
    (tmp_path / "beside.jsonl").write_text(json.dumps({"page": "x" * 10_000_000, "text": "tea"}))
    assert texts("beside.jsonl", tmp_path) == ["tea"]


def test_references_must_match_in_number(tmp_path: Path):
    message = "`references` must have one entry for each of the 2 prompts, but there are 3"
    with pytest.raises(PromptError, match=message):
        Prompts.of({"texts": ["a", "b"], "references": ["1", "2", "3"]})
    (tmp_path / "a.txt").write_text("a\n\nb\n")
    (tmp_path / "answers.txt").write_text("1\n\n2\n")
    with pytest.raises(PromptError, match=r"must have a line for each of the 2 prompts .*, but it has 3"):
        Prompts.of({"file": "a.txt", "references_file": "answers.txt"}, tmp_path).read()


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (3, ConfigurationError, "must be a list of texts, a file or a mapping, got 3"),
        ({"texts": "tea"}, ConfigurationError, "`texts` of `prompts` must be a list of texts, got 'tea'"),
        ({"file": "a", "texts": ["b"]}, ConfigurationError, "one of the two"),
        ({}, ConfigurationError, "one of the two"),
        ({"flie": "a"}, UnknownNameError, "unknown key of `prompts` `flie`; did you mean `file`"),
        ({"file": "a", "chat": "yes"}, ConfigurationError, "`chat` of `prompts` must be true or false"),
        (
            {"file": "a", "lines": 50},
            ConfigurationError,
            "`lines` of `prompts` must be text, got 50; write",
        ),
        ({"file": "a", "references": ["b"]}, ConfigurationError, "must name a field of a `file`, or list"),
        ({"texts": ["a"], "references": "b"}, ConfigurationError, "must name a field of a `file`, or list"),
    ],
)
def test_bad_values(value: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        Prompts.of(value)
