"""The report: what is in the page, and that nothing in it is anything but data."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_tables import experiment, go, table_model
from typer.testing import CliRunner

from ovdecode.cli import app
from ovdecode.errors import ConfigurationError
from ovdecode.experiment import Record, Store
from ovdecode.experiment import report as report_module
from ovdecode.experiment.report import write_report
from ovdecode.experiment.report.page import render
from ovdecode.experiment.report.texts import Texts
from ovdecode.experiment.report.traces import Alternative, Position, Trace, explore
from ovdecode.experiment.scores import Scores
from ovdecode.experiment.table import summarise, summary
from ovdecode.vocabulary import Letters

HOSTILE = "</script><script>document.title = 'broken out'</script><!--<img src=x onerror=alert(1)>"


class Words:
    """A spelling of a few words, of which some look like markup."""

    special_ids = frozenset({0})
    words = ("<|end|>", " a", " cat", HOSTILE, "\n", "\u2028", " sat", "<!--", "]]>", "&lt;")

    def token_bytes(self, token: int) -> bytes:
        return self.words[token].encode()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        raise NotImplementedError


def record(tokens: tuple[int, ...], prompt: int = 0, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "key": "k", "error": None, "model": "m", "strategy": "greedy", "prompt": prompt, "sample": 0, "seed": 0,
        "precision": "exact", "runner": "table", "text": "", "tokens": tokens, "taken_back": 0,
        "logprobs": tuple(-0.5 for _ in tokens), "logprob": -0.5 * len(tokens), "score": 0.0, "stop": "eos",
        "stop_detail": "", "forwards": len(tokens), "model_tokens": 9, "seconds": 1.0, "time_to_first_token": 0.1,
        "length": len(tokens), "cache_bytes": 0, "info": {},
    }  # fmt: skip
    return Record(**{**values, **changes})


def page_of(texts: Texts, methods: int = 1, prompt: str = "p") -> str:
    """A page of some texts, with figures that mean nothing."""
    scores = Scores.of(
        ("m", f"method{method}", each, {"length": float(each), "distinct_n": 1.0 / (1 + each + method)})
        for each in range(8)
        for method in range(methods)
    )
    prompts = {entry["prompt"]: {"text": prompt, "references": [prompt]} for entry in texts.entries}
    return render(prompt, [("what", prompt)], summarise(scores), prompts, texts.plain())


class Parsed(HTMLParser):
    """What an HTML parser makes of a page: its elements, and what is in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or f"script {len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data

    def json(self, name: str) -> Any:
        return json.loads(self.scripts[name])


def spelled(entry: dict[str, Any], data: dict[str, Any]) -> str:
    return "".join(data["pieces"][int(place)] for place in entry["looks"].split())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return go(tmp_path_factory.mktemp("report") / "my study", experiment(prompts=["aa", "ab", "ac", "ba", "bb", "bc"]))


def written(store: Store, file: Path, **options: Any) -> Parsed:
    path = write_report(store, file, models={"table": table_model()}, **options)
    return Parsed(path.read_text(encoding="utf-8"))


def test_the_page_has_every_text_with_its_tokens_and_their_probabilities(store: Store, tmp_path: Path) -> None:
    page = written(store, tmp_path / "r.html")
    data, overview = page.json("texts-data"), page.json("overview-data")
    records = sorted(store.records(), key=lambda each: (each.prompt, each.sample))
    assert len(data["texts"]) == len(records) == 72
    assert [row["label"] for row in overview["rows"]] == list(store.experiment.strategies)
    for found, entry in zip(records, data["texts"], strict=True):
        assert entry["prompt"] == found.prompt
        assert overview["rows"][entry["row"]]["label"] == found.strategy
        assert spelled(entry, data) == found.text
        surprises = np.array(entry["surprises"].split(), float) / -1000
        assert surprises == pytest.approx(np.array(found.logprobs, float), abs=6e-4)
    assert overview["prompts"]["3"] == {"text": "ba", "references": []}


def test_the_page_has_the_figures_of_the_summary(store: Store, tmp_path: Path) -> None:
    table = summary(store, baseline="greedy")
    page = written(store, tmp_path / "r.html", table=table)
    overview = page.json("overview-data")
    assert [metric["name"] for metric in overview["metrics"]] == list(table.metrics)
    assert {metric["name"]: metric["higher_is_better"] for metric in overview["metrics"]}["distinct_n"] is True
    for row, line in zip(table.rows, overview["rows"], strict=True):
        for metric, cell in zip(table.metrics, line["cells"], strict=True):
            assert cell["mean"] == pytest.approx(row.estimates[metric].value, rel=1e-4)
            assert cell["low"] == (low if (low := row.estimates[metric].low) is None else pytest.approx(low, rel=1e-4))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "difference to greedy" in text
    values = store.values("distinct_n")
    entry = page.json("texts-data")["texts"][1]
    assert entry["values"][table.metrics.index("distinct_n")] == pytest.approx(values[0, 0, 1, 0], rel=1e-4)


def test_beams_are_a_tree(store: Store, tmp_path: Path) -> None:
    plan = replace(store.experiment, strategies=("greedy", "beam:num_beams=2,num_return_sequences=2"))
    data = written(go(tmp_path / "s", plan), tmp_path / "r.html").json("texts-data")
    greedy, beam = data["texts"][:2]
    assert "tree" not in greedy
    assert beam["explored"] is False
    assert sorted(rank for _, _, rank in beam["tree"] if rank >= 0) == [0, 1]


def test_traces_say_what_else_was_possible(store: Store, tmp_path: Path) -> None:
    page = written(store, tmp_path / "r.html", traces=4)
    data = page.json("texts-data")
    assert ["trace" in entry for entry in data["texts"]] == [True] * 4 + [False] * 68
    sampled = data["texts"][1]
    assert sampled["trace"]["stages"] == ["temperature:temperature=0.7"]
    for place, (alternatives, removed) in zip(sampled["looks"].split(), sampled["trace"]["positions"], strict=True):
        assert [data["pieces"][each[0]] for each in alternatives if each[4]] == [data["pieces"][int(place)]]
        assert sum(each[1] for each in alternatives) == pytest.approx(1, abs=1e-3)
        assert removed == [[0, 0.0]]
    assert data["texts"][3]["explored"] is True  # beam search looked at more than it returned


def test_a_text_that_is_not_decoded_again_has_no_explored_tree(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(tasks: Any) -> Any:
        return [replace(found, tokens=(*found.tokens, 0)) for found in explore(tasks)]  # type: ignore[type-var]

    monkeypatch.setattr(report_module, "explore", other)
    data = written(store, store.folder / "r.html", traces=4).json("texts-data")
    assert not any(entry.get("explored") for entry in data["texts"])


def test_a_store_far_from_its_models_shows_plain_texts(store: Store, tmp_path: Path) -> None:
    page = Parsed(write_report(store, tmp_path / "r.html").read_text(encoding="utf-8"))
    entry = page.json("texts-data")["texts"][0]
    assert entry["text"] == next(iter(store.records())).text
    assert "looks" not in entry


def test_the_page_is_in_the_stores_folder_and_named_like_it(store: Store) -> None:
    path = write_report(store, models={"table": table_model()})
    assert path == store.folder / "report.html"
    assert "<title>my study</title>" in path.read_text(encoding="utf-8")
    path.unlink()


def test_texts_beyond_what_a_browser_opens_at_once_are_left_out_and_counted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "MAX_TEXTS", 10)
    page = written(store, tmp_path / "r.html")
    assert len(page.json("texts-data")["texts"]) == 10
    assert list(page.json("overview-data")["prompts"]) == ["0"]
    assert "Of 72 texts, the last 62 are not on this page." in (tmp_path / "r.html").read_text(encoding="utf-8")
    monkeypatch.setattr(report_module, "MAX_BYTES", 500)
    assert 0 < len(written(store, tmp_path / "r.html").json("texts-data")["texts"]) < 10


@pytest.mark.parametrize("traces", [-1, 1.5, True])
def test_traces_must_be_a_count(store: Store, traces: Any) -> None:
    with pytest.raises(ConfigurationError, match="`traces` must be a whole number of at least 0"):
        write_report(store, traces=traces)


def test_a_page_that_cant_be_written_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="`path` must be a file that can be written"):
        write_report(store, tmp_path / "no" / "folder" / "r.html")


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"a report needs `{package}`, which is not .*ovdecode\[report\]"):
        page_of(Texts({}, 10**7))


def test_markup_that_a_model_wrote_is_data() -> None:
    texts = Texts({"m": Words()}, 10**7)
    texts.add(record((1, 3, 5, 7, 8, 9, 0), error=HOSTILE, info={HOSTILE: 1.0}), 0, [])
    plain = Texts({}, 10**7)
    plain.add(record((), text=HOSTILE), 0, [])
    for some in (texts, plain):
        clean = page_of(Texts({}, 10**7))
        page = page_of(some, prompt=HOSTILE)
        parsed, usual = Parsed(page), Parsed(clean)
        assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in usual.tags]
        assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
        assert list(parsed.scripts) == ["overview-data", "texts-data", "script 2", "script 3"]
        assert parsed.json("overview-data")["prompts"]["0"]["text"] == HOSTILE
        assert page.lower().count("</script") == clean.lower().count("</script") == 4
        assert page.count("<!--") == clean.count("<!--")
    data = Parsed(page_of(texts)).json("texts-data")
    assert spelled(data["texts"][0], data) == " a" + HOSTILE + "\u2028<!--]]>&lt;<|end|>"
    assert [data["pieces"][place] for place in data["special"]] == ["<|end|>"]


def test_half_a_surrogate_pair_is_written(tmp_path: Path) -> None:
    texts = Texts({}, 10**7)
    texts.add(record((), text="\ud800"), 0, [])
    page = page_of(texts).encode("utf-8", "backslashreplace").decode()
    assert Parsed(page).json("texts-data")["texts"][0]["text"] == "\ud800"


def test_the_page_allows_its_own_scripts_alone() -> None:
    page = page_of(Texts({}, 10**7))
    parsed = Parsed(page)
    (policy,) = [
        attributes["content"] for tag, attributes in parsed.tags if tag == "meta" and "http-equiv" in attributes
    ]
    assert policy is not None
    digests = [
        base64.b64encode(hashlib.sha256(parsed.scripts[name].encode()).digest()).decode()
        for name in ("script 2", "script 3")
    ]
    assert f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_the_page_needs_no_network() -> None:
    page = page_of(Texts({}, 10**7))
    parsed = Parsed(page)
    own = page.replace(parsed.scripts["script 2"], "")  # the library names XML's namespaces, which are no addresses
    assert not re.search(r"https?:|//cdn|@import|url\(|fetch\(|XMLHttpRequest", own.replace(SVG, ""))
    assert not any(tag in ("link", "iframe", "img", "object", "embed", "base") for tag, _ in parsed.tags)
    assert not any({"src", "href", "action", "srcset"} & attributes.keys() for _, attributes in parsed.tags)


SVG = "http://www.w3.org/2000/svg"


def test_the_page_is_dark_and_light() -> None:
    page = page_of(Texts({}, 10**7))
    assert "color-scheme: light dark" in page
    assert "prefers-color-scheme: dark" in page
    assert 'id="theme"' in page


def test_2000_texts_weigh_less_than_15_megabytes() -> None:
    draw = random.Random(0)
    texts = Texts({"m": Letters()}, report_module.MAX_BYTES)
    for number in range(2000):
        tokens = tuple(draw.randrange(49152) for _ in range(256))
        logprobs = tuple(-draw.expovariate(0.5) for _ in tokens)
        texts.add(record(tokens, number // 8, logprobs=logprobs), number % 8, [draw.random(), draw.random()])
    assert len(texts.entries) == 2000
    assert not texts.full
    assert len(page_of(texts, methods=8, prompt="word " * 400).encode()) < 15e6


def test_traces_leave_room_for_all_texts() -> None:
    position = Position(tuple(Alternative(token, 0.1, 0.1, None) for token in range(8)), ((5, 0.1),))
    texts = Texts({"m": Letters()}, 10**7, max_trace_bytes=5000)
    for number in range(40):
        texts.add(record((1, 2, 3), number), 0, [1.0, 1.0], Trace(("top_k:k=5",), (position,) * 3))
    traced = ["trace" in entry for entry in texts.entries]
    assert len(traced) == 40
    assert 0 < sum(traced) == texts.traced < 40
    assert traced == sorted(traced, reverse=True)  # the first ones
    assert texts.trace_bytes < 6000
    assert not any("trace_error" in entry for entry in texts.entries)


def test_the_page_says_how_many_texts_have_traces(store: Store, tmp_path: Path) -> None:
    page = write_report(store, tmp_path / "r.html", models={"table": table_model()}, traces=3)
    assert "Alternatives, and the stages that removed them, are there for 3 of 72 texts" in page.read_text("utf-8")


def test_a_character_of_several_tokens_belongs_to_the_last() -> None:
    class Bytes(Letters):
        def token_bytes(self, token: int) -> bytes:
            return bytes([token])

    texts = Texts({"m": Bytes()}, 10**7)
    texts.add(record(tuple("aé€".encode())), 0, [])
    texts.add(record(tuple("a€".encode()[:-1])), 0, [])
    data = texts.plain()
    assert [data["pieces"][int(place)] for place in data["texts"][0]["looks"].split()] == ["a", "", "é", "", "", "€"]
    assert spelled(data["texts"][1], data) == "a\ufffd"


def test_unknown_probabilities_are_marked() -> None:
    texts = Texts({"m": Letters()}, 10**7)
    texts.add(record((1, 2, 3), logprobs=(-0.25, None, 0.0), logprob=None), 0, [float("nan"), 2.0])
    (entry,) = texts.entries
    assert entry["surprises"] == "250 x 0"
    assert entry["values"] == [None, 2.0]


def test_the_command_writes_the_page(store: Store, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(store.folder), "--html", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert "is written" in result.stderr.replace("\n", " ")
    page = Parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.json("texts-data")["texts"]) == 72
