from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from ovdecode import Bleu, Chrf, TokenF1, Vocabulary, parse
from ovdecode.errors import ConfigurationError
from ovdecode.utility import Utility

TEXTS = st.text(alphabet="abc .,\né", max_size=24)


def features(utility: Utility, *texts: str) -> list[Any]:
    making = utility.features(texts, [])
    with pytest.raises(StopIteration) as finished:
        next(making)
    made: list[Any] = finished.value.value
    return made


def utility_of(utility: Utility, candidate: str, reference: str) -> float:
    return utility.compare(*features(utility, candidate, reference))


@given(TEXTS, TEXTS)
def test_chrf_is_that_of_sacrebleu(candidate: str, reference: str) -> None:
    theirs = CHRF().sentence_score(candidate, [reference]).score
    assert utility_of(Chrf(), candidate, reference) == pytest.approx(theirs, abs=1e-9)
    theirs = CHRF(char_order=3, beta=1).sentence_score(candidate, [reference]).score
    assert utility_of(Chrf(char_order=3, beta=1), candidate, reference) == pytest.approx(theirs, abs=1e-9)


@given(TEXTS, TEXTS)
def test_bleu_is_that_of_sacrebleu(candidate: str, reference: str) -> None:
    theirs = BLEU(effective_order=True).sentence_score(candidate, [reference]).score
    assert utility_of(Bleu(), candidate, reference) == pytest.approx(theirs, abs=1e-9)
    theirs = BLEU(effective_order=True, tokenize="char").sentence_score(candidate, [reference]).score
    assert utility_of(Bleu(tokenize="char"), candidate, reference) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("utility", [Chrf(), Bleu()])
def test_equal_references_aggregate_to_themselves(utility: Utility) -> None:
    one, other = features(utility, "the cat sat on the mat", "the cat is on the mat")
    aggregate = utility.aggregate([other, other], np.array([0.3, 0.7]))
    assert utility.compare(one, aggregate) == pytest.approx(utility.compare(one, other))


def test_aggregated_chrf_by_hand() -> None:
    # Letters of ab and cc: a ½, b ½, c 1. The candidate aa has ½ in common, of its 2 and of their 2.
    chrf = Chrf(char_order=1)
    one, *others = features(chrf, "aa", "ab", "cc")
    assert chrf.compare(one, chrf.aggregate(others, np.array([0.5, 0.5]))) == pytest.approx(25.0)


def test_aggregated_bleu_by_hand() -> None:
    # Words of "a" and "a a a" are expected 2 times; the candidate has 1 of 1 in common and is 2 times too short.
    bleu = Bleu()
    one, *others = features(bleu, "a", "a", "a a a")
    assert bleu.compare(one, bleu.aggregate(others, np.array([0.5, 0.5]))) == pytest.approx(100 * np.exp(-1))


def test_token_f1_counts_generated_tokens_but_no_markup() -> None:
    prompt = Vocabulary(6, [5]).prompt([0, 0, 0])
    with pytest.raises(StopIteration) as finished:
        next(TokenF1().features(["", "", ""], [prompt + [1, 1, 2, 5], prompt + [1, 3], prompt + 5]))
    one, other, empty = finished.value.value
    f1 = TokenF1()
    assert f1.compare(one, other) == f1.compare(other, one) == pytest.approx(2 * 1 / 5)
    assert f1.compare(one, one) == f1.compare(empty, empty) == 1.0
    assert f1.compare(one, empty) == 0.0
    # One ½ of 1 and ½ of 3, together 1 token; of it the candidate 1 1 2 has ½: 2 · ½ / (3 + 1).
    aggregate = f1.aggregate([other, empty], np.array([0.5, 0.5]))
    assert f1.compare(one, aggregate) == pytest.approx(1 / 4)


def test_sacrebleu_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(ConfigurationError, match=r"`bleu` needs `sacrebleu`, .*'ovdecode\[mbr\]'"):
        features(Bleu(), "a")


@pytest.mark.parametrize(
    ("kind", "parameters"), [(Chrf, {"char_order": 0}), (Chrf, {"beta": 0.0}), (Chrf, {"beta": float("inf")})]
)
def test_a_parameter_out_of_range_is_named(kind: type[Utility], parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `chrf`"):
        kind(**parameters)


def test_an_unknown_tokeniser_is_named() -> None:
    with pytest.raises(ConfigurationError, match="`tokenize` of `bleu` must be one of"):
        features(Bleu(tokenize="letters"), "a")


def test_spec() -> None:
    assert parse("chrf:char_order=4,beta=1.0", "utility") == Chrf(4, 1.0)
