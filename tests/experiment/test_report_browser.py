"""The report in headless Chromium: what a reader sees and does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import EXECUTABLE, Page, browser
from test_report import HOSTILE, Words, page_of, record

from ovdecode.experiment.report.texts import Texts
from ovdecode.experiment.report.traces import Alternative, Explored, Position, Trace

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine: apt-get install chromium")

TRACE = Trace(
    ("temperature:temperature=0.5", "top_p:p=0.9"),
    (
        Position((Alternative(2, 0.75, 1.0, None), Alternative(1, 0.25, 0.0, 1)), ((0, 0.0), (1, 0.1))),
        Position((Alternative(3, 0.5, 0.5, None),), ((0, 0.0), (0, 0.0))),
        Position((Alternative(0, 0.5, 0.5, None),), ((0, 0.0), (0, 0.0))),
    ),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of 60 prompts and two methods."""
    texts = Texts({"m": Words()}, 10**7)
    for prompt in range(60):
        found = record((2, 3, 0), prompt, logprobs=(-0.05, -7.0, None))
        branches = Explored((2, 3, 0), ((1, 6), (2, 3, 0), (2, 6, 6)))
        texts.add(found, 0, [1.0 * prompt, 0.5], TRACE if prompt == 0 else None, branches if prompt == 0 else None)
        texts.add(record((1, 6) if prompt == 41 else (1, 2), prompt), 1, [2.0 * prompt, 0.7])
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page_of(texts, methods=2, prompt=HOSTILE), encoding="utf-8")
    with browser(folder / "profile") as opened:
        opened.open(folder / "report.html")
        opened.wait("document.querySelectorAll('.chart .marks').length === 2")
        opened.wait("document.querySelectorAll('.t').length > 0")
        yield opened


def test_markup_that_a_model_wrote_is_shown_and_not_run(page: Page) -> None:
    assert page.run("document.title") == HOSTILE
    assert page.run("document.scripts.length") == 4
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.querySelectorAll('.text')[0].textContent") == " cat" + HOSTILE + "<|end|>"
    assert HOSTILE in page.run("document.querySelector('.prompt .head').textContent")


def test_the_policy_stops_a_script_that_would_have_got_in(page: Page) -> None:
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    page.run("document.querySelectorAll('body > script')[4].remove()")
    assert page.run("window.ran === undefined")
    assert any("Content Security Policy" in problem for problem in page.problems)
    page.problems.clear()


def test_nothing_is_asked_of_a_network_and_nothing_goes_wrong(page: Page) -> None:
    page.run("document.getElementById('distribution-x').onchange()")
    assert [address.split(":")[0] for address in page.requests] == ["file"]
    assert page.problems == []


def test_tokens_are_coloured_by_their_probability(page: Page) -> None:
    assert page.run("[...document.querySelectorAll('.text')[0].children].map(token => token.className)") == [
        "t q0",
        "t q5",
        "t qx s",
    ]


def test_a_token_tells_its_alternatives_and_what_removed_them(page: Page) -> None:
    move = "new PointerEvent('pointerover', {bubbles: true})"
    page.run(f"document.querySelectorAll('.t')[0].dispatchEvent({move})")
    lines = page.run("[...document.querySelectorAll('#tip tr')].map(line => line.className + ':' + line.textContent)")
    assert lines == [":␣cat75.0 %→ 100 %".replace(":", " chosen:", 1), "gone:␣a25.0 %removed by top_p:p=0.9"]
    tip = page.run("document.getElementById('tip').textContent")
    assert tip.startswith("␣cat 95.1 %, 0.05 nats; token 1")
    assert tip.endswith("top_p:p=0.9 removed 1 tokens with 10.0 %")
    page.run("document.getElementById('prompts').dispatchEvent(new PointerEvent('pointerleave'))")
    assert page.run("document.getElementById('tip').hidden")


def test_a_token_stays_open_after_a_click_and_the_keys_go_along(page: Page) -> None:
    page.run("document.querySelectorAll('.t')[0].click()")
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    assert "token 2" in page.run("document.getElementById('tip').textContent")
    assert page.run("document.querySelector('.t.open') === document.querySelectorAll('.t')[1]")
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert page.run("document.getElementById('tip').hidden")


def test_search_finds_the_texts_and_pages_show_all(page: Page) -> None:
    assert page.run("document.getElementById('page').textContent") == "page 1 of 3"
    assert page.run("document.querySelectorAll('.prompt').length") == 20
    page.run("Object.assign(document.getElementById('query'), {value: 'A SAT'}).oninput()")
    page.wait("document.getElementById('hits').textContent === '1 texts, 1 prompts'")
    page.wait("document.querySelectorAll('.cell').length === 2")
    assert page.run("document.querySelectorAll('.text')[1].textContent") == " a sat"
    assert page.run("[...CSS.highlights.get('hits')].map(String)") == ["a sat"]
    page.run("Object.assign(document.getElementById('query'), {value: ''}).oninput()")
    page.wait("document.getElementById('hits').textContent === '60 prompts'")
    page.run("document.getElementById('next').click()")
    page.wait("document.querySelectorAll('.cell').length > 0")
    assert page.run("document.querySelector('.prompt').dataset.prompt") == "20"
    page.run("document.getElementById('previous').click()")
    page.wait("document.querySelectorAll('.cell').length > 0")


def test_methods_can_be_hidden(page: Page) -> None:
    page.run("document.querySelectorAll('#methods input')[0].click()")
    page.wait("document.querySelectorAll('.cell').length > 0")
    assert page.run("[...new Set([...document.querySelectorAll('.cell h3')].map(name => name.textContent))]") == [
        "method1"
    ]
    page.run("document.querySelectorAll('#methods input')[0].click()")
    page.wait("document.querySelectorAll('.cell').length > 1")


def test_the_tree_is_drawn_with_the_answer_marked(page: Page) -> None:
    page.run("[...document.querySelectorAll('.figures button')].find(each => each.textContent === 'tree').click()")
    labels = page.run("[...document.querySelectorAll('#tree svg text')].map(label => label.textContent)")
    assert labels == [" cat", HOSTILE[:59] + "… #1", " sat sat", " a sat"]
    assert page.run("document.querySelectorAll('#tree .rank').length") == 1
    page.run("document.getElementById('tree').close()")


def test_light_turns_dark_and_the_charts_with_it(page: Page) -> None:
    before = page.run("getComputedStyle(document.body).backgroundColor")
    label = "document.querySelector('#tradeoff svg.marks text').getAttribute('fill')"
    ink = page.run(label)
    page.run("document.getElementById('theme').click()")
    page.wait(f"({label}) !== '{ink}'")
    assert page.run("getComputedStyle(document.body).backgroundColor") != before
    page.run("document.getElementById('theme').click()")
    page.wait(f"({label}) === '{ink}'")


def test_a_click_sorts_the_table(page: Page) -> None:
    first = "document.querySelector('#summary tbody th').textContent.trim()"
    page.run("document.querySelectorAll('#summary thead th')[3].click()")  # distinct_n, rising
    assert page.run(first) == "method1"
    page.run("document.querySelectorAll('#summary thead th')[3].click()")
    assert page.run(first) == "method0"


def test_the_front_follows_what_is_better(page: Page) -> None:
    # Both methods have the same length, of which no better is known; method0 has the higher distinct_n.
    up, across = (f"document.getElementById('tradeoff-{axis}').selectedOptions[0].textContent" for axis in "yx")
    assert page.run(up) == "length (tokens)"
    assert page.run(across) == "distinct_n"
    said = "document.getElementById('tradeoff-front').textContent"
    line = "document.querySelectorAll('#tradeoff .mark-line').length"
    assert page.run(said) == "For the Pareto front, say which way is better: click on “no better way”."
    assert page.run(line) == 0
    page.run("document.getElementById('tradeoff-y-way').click()")
    assert page.run("document.getElementById('tradeoff-y-way').textContent") == "more is better"
    page.wait(f"{line} === 1")
    assert page.run(said).startswith("The dashed line is the Pareto front")
    page.run("document.getElementById('tradeoff-y-way').click()")
    assert page.run("document.getElementById('tradeoff-y-way').textContent") == "less is better"


def test_no_label_of_a_method_covers_another(tmp_path: Path, page: Page) -> None:
    """Methods with nearly the same figures had their names printed on each other."""
    texts = Texts({"m": Words()}, 10**7)
    for row in range(8):
        texts.add(record((2, 3), 0), row, [1.0, 0.5])
    (tmp_path / "near.html").write_text(page_of(texts, methods=8), encoding="utf-8")
    page.open(tmp_path / "near.html")
    page.wait("document.querySelectorAll('#tradeoff .mark-text text').length >= 8")
    boxes = page.run(
        "[...document.querySelectorAll('#tradeoff .mark-text text')].filter(label => label.textContent.startsWith("
        "'method')).map(label => label.getBoundingClientRect()).map(box => [box.left, box.right, box.top, box.bottom])"
    )
    assert len(boxes) == 8
    for one, other in itertools.combinations(boxes, 2):
        across = min(one[1], other[1]) - max(one[0], other[0])
        down = min(one[3], other[3]) - max(one[2], other[2])
        assert across <= 0 or down <= 3  # what is empty above a letter
