"""What a notebook shows of a generation."""

from __future__ import annotations

import html
import math
import re
from typing import Any

import ovdecode as od
from ovdecode.notebook import tokens_html


class Words:
    """Tokens that are these bytes; the last is markup."""

    def __init__(self, *words: bytes) -> None:
        self.words = words
        self.special_ids = frozenset({len(words) - 1})

    def token_bytes(self, token: int) -> bytes:
        return self.words[token]

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return []


def shown(page: str) -> str:
    return html.unescape(re.sub(r"<[^<>]*>", "", page))


def alphas(page: str) -> list[float]:
    return [float(alpha) for alpha in re.findall(r"rgba\(230,120,20,([\d.]+)\)", page)]


def test_the_less_probable_the_more_coloured():
    page = tokens_html([0, 1, 2], [0.0, math.log(0.5), -math.inf], Words(b"a", b"b", b"c", b"<e>"))
    assert shown(page) == "abc"
    sure, maybe, never = alphas(page)
    assert sure == 0.0 < maybe < never == 0.6
    assert 'title="p = 0.5, token 1"' in page


def test_text_of_a_model_is_only_text():
    page = tokens_html([0, 1, 2], [-1.0] * 3, Words(b"<script>alert(1)</script>", b'" onclick="x', b"</s>"))
    assert shown(page) == '<script>alert(1)</script>" onclick="x</s>'
    assert set(re.findall(r"<(\w+)", page)) == {"span"}
    assert "onclick=&quot;" in page


def test_a_character_of_several_tokens_stands_at_the_last():
    page = tokens_html([0, 1, 0], [-1.0] * 3, Words(b"\xc3", b"\xa9", b"</s>"))
    assert shown(page) == "é\ufffd"


def test_unknown_probability_is_underlined():
    page = tokens_html([0], [math.nan], Words(b"a", b"</s>"))
    assert alphas(page) == []
    assert 'underline dotted" title="probability not known, token 0"' in page


def test_a_generation_shows_itself():
    model = od.Model(od.TableRunner([[0, 9], [9, 0]]))
    page = model.generate("a", "greedy", max_new_tokens=3)._repr_html_()
    assert shown(page).startswith("greedy · 3 tokens · max_new_tokens")
    assert shown(page).endswith("bab")


def test_a_failed_generation_says_why():
    @od.register("failing_in_a_notebook")
    class Failing(od.Strategy):
        """Fails."""

        def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
            yield prompt
            raise RuntimeError("<b>no</b>")

    (generation,) = od.Engine().run([od.Task(od.Model(od.TableRunner([[0]])), "a", Failing())])
    page = generation._repr_html_()
    assert "RuntimeError: <b>no</b>" in shown(page)
    assert "<b>" not in page


def test_a_real_text_is_shown_whole(model: od.Model):
    generation = model.generate("The capital of France is", "sampling", max_new_tokens=12, seed=1)
    assert generation.text.strip() in shown(generation._repr_html_())
    assert len(alphas(generation._repr_html_())) == len(generation.tokens)
