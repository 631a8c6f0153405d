from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from ovdecode import BleuScore, ChrfScore, CorpusScore, ExactMatch, Rouge, parse
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result, TextMetric
from ovdecode.strategies.metrics.references import _common_subsequence

WORDS = st.lists(st.sampled_from(["the", "cat", "sat.", "on", "The", "mat", "42", "-", "é"]), max_size=12).map(" ".join)
REFERENCES = st.lists(WORDS, min_size=1, max_size=3)


def result(text: str, *references: str) -> Result:
    return Result(text, references=references)


@pytest.mark.parametrize(
    ("metric", "text", "reference", "expected"),
    [
        (ExactMatch(), " Paris\n", "Paris", 1.0),
        (ExactMatch(), "New  York", "New York", 1.0),
        (ExactMatch(), "paris", "Paris", 0.0),
        (ExactMatch(ignore_case=True), "STRASSE", "straße", 1.0),
        (ExactMatch(ignore_punctuation=True), "Paris.", "Paris", 1.0),
        (ExactMatch(ignore_punctuation=True), "paris.", "Paris", 0.0),
        (ExactMatch(), "", "", 1.0),
        (ExactMatch(), "", "Paris", 0.0),
    ],
)
def test_exact_match(metric: ExactMatch, text: str, reference: str, expected: float) -> None:
    assert metric(result(text, reference)) == expected
    assert metric(result(text, "something else", reference)) == expected


@pytest.mark.parametrize("metric", [ExactMatch(), Rouge(), ChrfScore(), BleuScore()])
def test_without_a_reference_there_is_no_number(metric: TextMetric) -> None:
    assert math.isnan(metric(Result("a text")))
    assert metric(result("", "a text")) == 0.0


@given(WORDS, REFERENCES, st.sampled_from(["rouge1", "rouge2", "rouge3", "rougeL"]))
def test_rouge_is_that_of_rouge_score(text: str, references: list[str], kind: str) -> None:
    theirs = RougeScorer([kind]).score_multi(references, text)[kind].fmeasure
    assert Rouge(kind)(result(text, *references)) == pytest.approx(theirs, abs=1e-12)


def test_rouge_by_the_example_of_its_paper() -> None:
    # Lin 2004, section 3: S1 is the reference, S2 shares 3 words in order with it, S3 shares 2.
    reference = "police killed the gunman"
    assert Rouge()(result("police kill the gunman", reference)) == pytest.approx(3 / 4)
    assert Rouge()(result("the gunman kill police", reference)) == pytest.approx(2 / 4)
    assert Rouge("rouge2")(result("police kill the gunman", reference)) == pytest.approx(1 / 3)
    assert Rouge("rouge2")(result("the gunman kill police", reference)) == pytest.approx(1 / 3)


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_longest_common_subsequence(one: str, other: str) -> None:
    def longest(first: str, second: str) -> int:
        if not first or not second:
            return 0
        if first[0] == second[0]:
            return 1 + longest(first[1:], second[1:])
        return max(longest(first[1:], second), longest(first, second[1:]))

    assert _common_subsequence(list(one), list(other)) == longest(one, other)


@given(WORDS, REFERENCES)
def test_chrf_and_bleu_are_those_of_sacrebleu(text: str, references: list[str]) -> None:
    of = result(text, *references)
    assert ChrfScore()(of) == sacrebleu.sentence_chrf(text, references).score
    assert ChrfScore(word_order=2)(of) == sacrebleu.sentence_chrf(text, references, word_order=2).score
    assert BleuScore()(of) == sacrebleu.sentence_bleu(text, references).score
    assert BleuScore(tokenize="char")(of) == sacrebleu.sentence_bleu(text, references, tokenize="char").score


def test_a_corpus_is_scored_as_a_whole() -> None:
    texts = ["the cat sat on the mat", "a dog", "nothing"]
    references = [["the cat is on the mat", "a cat sat on a mat"], ["the dog", "one dog"]]
    results = [result(text, *each) for text, each in zip(texts, references, strict=False)]
    columns = [list(column) for column in zip(*references, strict=True)]
    expected = sacrebleu.corpus_bleu(texts[:2], columns).score
    assert CorpusScore()([*results, Result("nothing")]) == expected > 0
    assert CorpusScore(ChrfScore())(results) == sacrebleu.corpus_chrf(texts[:2], columns).score
    assert CorpusScore()(results) != pytest.approx(sum(map(BleuScore(), results)) / 2)


def test_texts_may_have_unlike_numbers_of_references() -> None:
    one = result("the cat sat on the mat", "the cat is on the mat", "the cat sat on the mat")
    other = result("a dog ran in the park", "the dog ran in the park")
    doubled = replace(other, references=other.references * 2)
    assert CorpusScore()([one, other]) == CorpusScore()([one, doubled])
    assert math.isnan(CorpusScore()([Result("a"), Result("b")]))


def test_specs() -> None:
    assert parse("corpus_score:metric=(chrf:word_order=2)", "metric") == CorpusScore(ChrfScore(word_order=2))
    assert parse("rouge:rouge_type=rouge2", "metric") == Rouge("rouge2")


@pytest.mark.parametrize(
    ("metric", "parameters"),
    [
        (ChrfScore, {"char_order": 0}),
        (ChrfScore, {"word_order": -1}),
        (ChrfScore, {"beta": 0.0}),
        (ChrfScore, {"beta": math.inf}),
        (Rouge, {"rouge_type": "rouge0"}),
        (Rouge, {"rouge_type": "rougeLsum"}),
        (CorpusScore, {"metric": Rouge()}),
    ],
)
def test_parameters_out_of_range_are_named(metric: type[Any], parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `{metric.name}` must be"):
        metric(**parameters)


def test_an_unknown_tokeniser_is_named() -> None:
    with pytest.raises(ConfigurationError, match="`tokenize` of `bleu` must be one of"):
        BleuScore(tokenize="letters")(result("a", "a"))


def test_sacrebleu_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    with pytest.raises(ConfigurationError, match=r"`chrf` needs `sacrebleu`, .*'ovdecode\[metrics\]'"):
        ChrfScore()(result("a", "a"))
