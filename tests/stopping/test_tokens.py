"""Tokens: ends, stop sequences, loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse
from ovdecode.strategies.stopping.tokens import Eos, Loop, StopTokens
from ovdecode.vocabulary import Vocabulary

VOCABULARY = Vocabulary(6, eos_token_ids=[3, 5])
PROMPT = VOCABULARY.prompt([0, 3])


def test_eos_is_any_of_the_models_own():
    assert Eos()(PROMPT + 1) is None
    assert str(Eos()(PROMPT + 3)) == "eos(3)"
    assert str(Eos()(PROMPT + 5)) == "eos(5)"


def test_an_eos_that_ends_the_prompt_does_not_count():
    assert Eos()(PROMPT) is None
    assert Eos()(VOCABULARY.root) is None


def test_eos_of_ones_own():
    assert Eos([1])(PROMPT + 3) is None
    assert str(Eos([1])(PROMPT + 1)) == "eos(1)"
    assert Eos(np.array([2, 1, 2])) == Eos((1, 2))


def test_stop_tokens_in_cases():
    criterion = StopTokens([[1, 2], [4]])
    assert criterion(PROMPT + 2) is None
    assert criterion(PROMPT + [1, 1]) is None
    assert criterion(PROMPT + [1, 2, 1]) is None
    assert str(criterion(PROMPT + [1, 1, 2])) == "stop_tokens(1 2)"
    assert str(criterion(PROMPT + [1, 4])) == "stop_tokens(4)"


def test_stop_tokens_do_not_begin_in_the_prompt():
    assert StopTokens([[3, 1]])(PROMPT + 1) is None
    assert StopTokens([[3]])(PROMPT) is None


def test_loop_in_cases():
    loop = Loop(max_period=3, repeats=3)
    assert loop(PROMPT + [1, 1]) is None
    assert str(loop(PROMPT + [1, 1, 1])) == "loop(period 1)"
    assert str(loop(PROMPT + [0, 1, 2, 1, 2, 1, 2])) == "loop(period 2)"
    assert str(loop(PROMPT + [1, 2, 4, 1, 2, 4, 1, 2, 4])) == "loop(period 3)"
    assert loop(PROMPT + [0, 1, 2, 4, 0, 1, 2, 4, 0, 1, 2, 4]) is None
    assert loop(PROMPT + [1, 2, 1, 2, 1, 2, 4]) is None


def test_loop_does_not_begin_in_the_prompt():
    assert Loop(repeats=2)(VOCABULARY.prompt([1, 1, 1]) + 1) is None


@given(st.lists(st.integers(0, 1), max_size=16), st.integers(1, 4), st.integers(2, 3))
def test_loop_equals_its_definition(tokens, max_period, repeats):
    expected = any(
        len(tokens) >= period * repeats and tokens[-period * repeats :] == tokens[-period:] * repeats
        for period in range(1, max_period + 1)
    )
    assert bool(Loop(max_period, repeats)(PROMPT + tokens)) == expected


@pytest.mark.parametrize("criterion", [Eos(), Eos([2, 7]), StopTokens([[198, 198], [5]]), Loop(), Loop(8, 3)], ids=str)
def test_spec_strings_come_back(criterion):
    again = parse(str(criterion), "stopping")
    assert again == criterion
    assert hash(again) == hash(criterion)
    assert not criterion.ends
    assert criterion.withheld == 0


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: Eos([]), "tokens"),
        (lambda: Eos(3), "tokens"),
        (lambda: Eos([-1]), "tokens"),
        (lambda: StopTokens([]), "sequences"),
        (lambda: StopTokens([[]]), "sequences"),
        (lambda: StopTokens([1, 2]), "sequences"),
        (lambda: StopTokens(["the"]), "sequences"),
        (lambda: Loop(max_period=0), "max_period"),
        (lambda: Loop(repeats=1), "repeats"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
