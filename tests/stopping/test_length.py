"""Length and time: the bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse
from ovdecode.strategies.stopping.length import MaxLength, MaxNewTokens, MaxTime
from ovdecode.strategies.stopping.tokens import Eos
from ovdecode.vocabulary import Vocabulary

PROMPT = Vocabulary(4).prompt([0, 1, 2])


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(MaxTime, "clock", clock)
    return clock


@given(st.integers(1, 6), st.integers(0, 6))
def test_counts(count, generated):
    sequence = PROMPT + [0] * generated
    assert bool(MaxNewTokens(count)(sequence)) == (generated >= count)
    assert bool(MaxLength(count)(sequence)) == (3 + generated >= count)


def test_reasons():
    assert str(MaxNewTokens(1)(PROMPT + 0)) == "max_new_tokens(1)"
    assert str(MaxLength(3)(PROMPT)) == "max_length(3)"


def test_time_runs_from_begin(clock):
    running = MaxTime(5).begin(PROMPT)
    clock.now = 104.9
    assert running(PROMPT) is None
    clock.now = 105.0
    assert str(running(PROMPT)) == "max_time(5 s)"
    assert running.ends


def test_each_run_has_its_own_time(clock):
    criterion = MaxTime(5)
    first = criterion.begin(PROMPT)
    clock.now = 103.0
    second = criterion.begin(PROMPT)
    clock.now = 106.0
    assert first(PROMPT)
    assert not second(PROMPT)


def test_time_begins_inside_combinations(clock):
    running = (Eos() | (MaxTime(5) & ~MaxNewTokens(9))).begin(PROMPT)
    assert running(PROMPT) is None
    clock.now = 200.0
    assert running(PROMPT).name == "max_time(5 s) & not max_new_tokens"


def test_time_asked_before_it_has_begun_is_an_error_and_not_silence():
    with pytest.raises(ConfigurationError, match="begun"):
        MaxTime(5)(PROMPT)


def test_bounds_are_sure_to_come():
    assert MaxNewTokens(3).ends
    assert MaxLength(3).ends
    assert MaxTime(3).ends
    assert (Eos() | MaxTime(3)).ends
    assert not (Eos() & MaxTime(3)).ends


@pytest.mark.parametrize("criterion", [MaxNewTokens(3), MaxLength(7), MaxTime(0.5)], ids=str)
def test_spec_strings_come_back(criterion):
    assert parse(str(criterion), "stopping") == criterion


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: MaxNewTokens(0), "count"),
        (lambda: MaxNewTokens(1.5), "count"),
        (lambda: MaxLength(0), "length"),
        (lambda: MaxTime(0), "seconds"),
        (lambda: MaxTime(math.inf), "seconds"),
        (lambda: MaxTime(math.nan), "seconds"),
        (lambda: MaxTime("soon"), "seconds"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
