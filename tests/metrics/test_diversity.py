from __future__ import annotations

import math
from collections.abc import Sequence as Items

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from scipy.stats import linregress

from ovdecode import CorpusDistinctN, SelfBleu, Zipf
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result

TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=9), min_size=2, max_size=6)


def texts(*each: Items[int]) -> list[Result]:
    return [Result("", tuple(tokens)) for tokens in each]


def test_distinct_over_texts_is_not_the_mean() -> None:
    assert CorpusDistinctN(n=2)(texts([1, 2, 3], [1, 2], [5])) == pytest.approx(2 / 3)
    assert CorpusDistinctN(n=1)(texts([1, 2], [1, 2])) == 0.5
    assert CorpusDistinctN(n=1, of="words")([Result("a b"), Result("a c")]) == 0.75


def test_no_n_gram_goes_over_the_end_of_a_text() -> None:
    assert math.isnan(CorpusDistinctN(n=2)(texts([1], [2])))


def self_bleu(tokens: list[list[int]], n: int) -> float:
    """As Texygen computes it, with nltk."""
    scores = [
        sentence_bleu(
            tokens[:place] + tokens[place + 1 :],
            text,
            weights=(1 / n,) * n,
            smoothing_function=SmoothingFunction().method1,
        )
        for place, text in enumerate(tokens)
    ]
    return float(np.mean(scores))


@given(TEXTS, st.integers(1, 5))
def test_self_bleu_is_that_of_nltk(tokens: list[list[int]], n: int) -> None:
    assert SelfBleu(n=n)(texts(*tokens)) == pytest.approx(self_bleu(tokens, n), abs=1e-12)


def test_self_bleu_by_hand() -> None:
    # Of 1 2 3, the words 1 2 and the pair 12 are in 1 2 4, and the other way round: √(2/3 · 1/2).
    assert SelfBleu(n=2)(texts([1, 2, 3], [1, 2, 4])) == pytest.approx(math.sqrt(1 / 3))
    # Of two that are longer, the nearer counts: 1 2 is 1 too short; the others are not shorter than the nearest.
    assert SelfBleu(n=1)(texts([1, 2], [1, 2, 3], [1, 2, 3])) == pytest.approx((math.exp(1 - 3 / 2) + 1 + 1) / 3)


def test_self_bleu_of_words() -> None:
    results = [Result("The cat sat.", (1,)), Result("The cat sat!", (2,))]
    assert SelfBleu(n=3, of="words")(results) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3))


def test_one_text_is_like_no_other() -> None:
    assert math.isnan(SelfBleu()(texts([1, 2, 3])))
    assert SelfBleu()(texts([], [])) == 0.0


def test_zipf_is_the_slope() -> None:
    harmonic = [token for token in range(1, 13) for _ in range(27720 // token)]
    assert Zipf()(texts(harmonic)) == pytest.approx(1.0)
    assert Zipf()(texts([1, 2, 3], [1, 2, 3])) == pytest.approx(0.0)
    assert Zipf(of="words")([Result("a b a b a b c c c")]) == pytest.approx(0.0)


@given(st.lists(st.integers(0, 9), min_size=8, max_size=60), st.integers(2, 12))
def test_zipf_is_scipy_s_regression(tokens: list[int], ranks: int) -> None:
    counts = sorted(np.unique(tokens, return_counts=True)[1].tolist(), reverse=True)[:ranks]
    found = Zipf(ranks=ranks)(texts(tokens[:5], tokens[5:]))
    if len(counts) < 2:
        assert math.isnan(found)
        return
    fit = linregress(np.log(np.arange(1, len(counts) + 1)), np.log(counts))
    assert found == pytest.approx(-fit.slope, abs=1e-12)


def test_one_kind_of_token_has_no_slope() -> None:
    assert math.isnan(Zipf()(texts([3, 3, 3], [])))


@pytest.mark.parametrize("make", [lambda: SelfBleu(n=0), lambda: Zipf(ranks=1), lambda: CorpusDistinctN(n=0)])
def test_parameters_out_of_range_are_refused(make: type[SelfBleu]) -> None:
    with pytest.raises(ConfigurationError, match="must be a whole number of at least"):
        make()
