from __future__ import annotations

import math
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Copied, LongestCopy, Model
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result


def test_the_share_of_copied_n_grams() -> None:
    text = Result("", tokens=(1, 2, 3, 9, 1), prompt_tokens=(0, 1, 2, 3))
    assert Copied(n=1)(text) == 4 / 5
    assert Copied(n=2)(text) == 2 / 4
    assert Copied(n=3)(text) == 1 / 3
    assert Copied(n=4)(text) == 0.0
    assert math.isnan(Copied(n=6)(text))


def test_what_reaches_over_the_border_is_no_copy() -> None:
    assert Copied(n=2)(Result("", tokens=(3, 3), prompt_tokens=(3,))) == 0.0


def test_the_longest_passage_by_hand() -> None:
    text = Result("A black cat.", tokens=(5, 1, 2, 3, 1, 2), prompt="The black dog", prompt_tokens=(1, 2, 3, 4, 5, 1))
    assert LongestCopy()(text) == 3.0
    assert LongestCopy(of="characters")(text) == len(" black ")


@given(st.text("abc", max_size=30), st.text("abc", max_size=30))
def test_the_longest_passage_is_difflib_s(text: str, prompt: str) -> None:
    expected = SequenceMatcher(None, text, prompt, autojunk=False).find_longest_match().size
    assert LongestCopy(of="characters")(Result(text, prompt=prompt)) == expected
    tokens = Result("", tokens=tuple(map(ord, text)), prompt_tokens=tuple(map(ord, prompt)))
    assert LongestCopy()(tokens) == expected


def test_a_long_text_that_repeats_itself_takes_no_longer_than_another() -> None:
    assert LongestCopy(of="characters")(Result("ab" * 20_000, prompt="ba" * 20_000)) == 39_999.0


def test_nothing_has_nothing_in_common() -> None:
    assert LongestCopy()(Result("", prompt_tokens=(1,))) == 0.0
    assert LongestCopy(of="characters")(Result("abc")) == 0.0
    assert math.isnan(Copied()(Result("")))


def test_a_model_that_goes_on_with_its_prompt_copies(model: Model) -> None:
    copy = Result.of(model.generate("1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2,", max_new_tokens=8))
    other = Result.of(model.generate("The capital of France is", max_new_tokens=8))
    assert copy.text == " 3, 1, 2"
    assert Copied(n=3)(copy) == 1.0
    assert LongestCopy()(copy) == 8.0
    assert LongestCopy(of="characters")(copy) == len(copy.text)
    assert Copied(n=3)(other) == 0.0


def test_parameters_out_of_range_are_named() -> None:
    with pytest.raises(ConfigurationError, match="`n` of `copied` must be"):
        Copied(n=0)
    with pytest.raises(ConfigurationError, match="`of` must be one of tokens, characters, got 'words'"):
        LongestCopy(of="words")  # type: ignore[arg-type]
