from __future__ import annotations

import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import CompressionRatio, DistinctN, LoopRate, RepN
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result
from ovdecode.strategies.metrics.repetition import distinct_n, items_of, repetition


def tokens(*ids: int, stop: str = "") -> Result:
    return Result("", ids, stop=stop)


def test_distinct_n() -> None:
    assert distinct_n([1, 2, 3, 4], 2) == 1.0
    assert distinct_n([1, 1, 1, 1, 1], 2) == 0.25
    assert distinct_n([1, 2, 1], 1) == pytest.approx(2 / 3)
    assert DistinctN(n=2)(tokens(1, 1, 1, 1, 1)) == 0.25


def test_repetition_is_the_rest() -> None:
    assert repetition([1, 2, 3, 4, 5], 4) == 0.0
    assert repetition([1, 2, 1, 2, 1, 2, 1], 4) == 0.5
    assert repetition([1, 1, 1, 1, 1], 2) == 1 - distinct_n([1, 1, 1, 1, 1], 2)
    assert RepN()(tokens(1, 2, 1, 2, 1, 2, 1)) == 0.5


def test_too_short_is_no_number() -> None:
    assert math.isnan(distinct_n([1], 2))
    assert math.isnan(repetition([], 1))
    assert math.isnan(RepN()(tokens(1, 2, 3)))
    assert math.isnan(DistinctN(of="words")(Result("word")))
    with pytest.raises(ConfigurationError, match="`n` must be at least 1, got 0"):
        distinct_n([1], 0)


def test_words_are_runs_of_letters_or_of_marks() -> None:
    assert items_of(Result("Well, it's 2.5 °C --\nélan!"), "words") == [
        *("Well", ",", "it", "'", "s", "2", ".", "5", "°", "C", "--", "élan", "!")
    ]
    assert DistinctN(n=1, of="words")(Result("to be or not to be", tokens=(1, 2))) == pytest.approx(4 / 6)
    assert RepN(n=1, of="words")(Result("to be or not to be", tokens=(1, 2))) == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("result", "loops"),
    [
        (tokens(9, 1, 2, 3, 1, 2, 3), True),
        (tokens(1, 2, 3, 1, 2, 3, 9), False),
        (tokens(1, 2, 3, 1, 2, 3, 9, stop="eos"), True),  # the end token does not count
        (tokens(1, 2, 3, 1, 2, 3, 9, stop="max_new_tokens"), False),
        (tokens(8, 9, 1, 2, 1, 2, 1, 2), False),  # three times, but two tokens only
        (tokens(*[1, 2] * 51), True),
        (tokens(*[7] * 50), False),
        (tokens(*[7] * 51), True),
        (tokens(4), False),
    ],
)
def test_loops_by_hand(result: Result, loops: bool) -> None:
    assert LoopRate()(result) == loops


def test_a_loop_longer_than_the_bound_is_none() -> None:
    twice = tokens(*range(5), *range(5))
    assert LoopRate(max_period=5)(twice) == 1.0
    assert LoopRate(max_period=4)(twice) == 0.0


def test_the_period_that_repeats_most_decides_and_the_shortest_of_equals() -> None:
    assert LoopRate()(tokens(1, 1, 1, 1, 1, 1)) == 0.0  # 111 stands there twice, but 1 six times, and it is too short
    assert LoopRate()(tokens(1, 2, 2, 1, 2, 2)) == 0.0  # 122 stands there twice, but so does 2
    assert LoopRate()(tokens(2, 1, 2, 2, 1, 2)) == 1.0


def loops(text: list[int], longest: int) -> bool:
    """The law, spelled out: the last `period` tokens, `times` times, are how the text ends."""

    def times(period: int) -> int:
        return max(
            many for many in range(1, len(text) // period + 1) if text[-period * many :] == text[-period:] * many
        )

    most = max(times(period) for period in range(1, min(longest, len(text)) + 1))
    period = min(period for period in range(1, min(longest, len(text)) + 1) if times(period) == most)
    return most > 1 and (period >= 3 or most > 50)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=14), st.integers(1, 4))
def test_loops_are_those_of_the_law(text: list[int], repeats: int) -> None:
    text = text + text[-5:] * repeats
    assert LoopRate(max_period=6)(tokens(*text)) == loops(text, 6)


def test_nothing_generated_is_no_loop_and_no_number() -> None:
    assert math.isnan(LoopRate()(tokens()))
    assert math.isnan(LoopRate()(tokens(9, stop="eos")))


def test_compression_counts_bytes() -> None:
    text = "€ uro " * 40
    assert CompressionRatio()(Result(text)) == len(text.encode()) / len(zlib.compress(text.encode()))
    assert CompressionRatio()(Result("a" * 1000)) > 40
    assert CompressionRatio()(Result("a")) < 1
    assert math.isnan(CompressionRatio()(Result("")))
    assert CompressionRatio()(Result("\ud800")) > 0  # half a pair: no tokenizer makes it, and none may break the rest


@pytest.mark.parametrize("kind", [DistinctN, RepN])
def test_parameters_out_of_range_are_named(kind: type[DistinctN] | type[RepN]) -> None:
    with pytest.raises(ConfigurationError, match=r"`n` of `.*` must be a whole number of at least 1, got 0"):
        kind(n=0)
    with pytest.raises(ConfigurationError, match="`of` must be one of tokens, words, got 'letters'"):
        kind(of="letters")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`max_period` of `loop_rate` must be"):
        LoopRate(max_period=0)
