"""What a strategy returns is checked before anybody counts on it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import ovdecode as od
from ovdecode.errors import StrategyError
from ovdecode.strategy import Hypothesis, Outcome, outcome

PROMPT = od.Vocabulary(2).prompt([0])


@pytest.mark.parametrize("number", [1, 0.5, True, float("nan"), np.float32(2), np.int64(3), Fraction(1, 2)])
def test_numbers_of_any_kind_are_numbers(number: Any) -> None:
    found = Outcome((Hypothesis(PROMPT, number),), {"accepted": number})
    assert outcome(found) is found


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"ok": 1, "why": "text"}, "`why` in `info` of an Outcome must be a real number, but is str: 'text'"),
        ({"all": np.ones(2)}, "`all` in `info` of an Outcome must be a real number, but is ndarray"),
        ({"none": None}, "`none` in `info` of an Outcome must be a real number, but is NoneType"),
        ({(1, 2): 1.0}, r"a name in `info` of an Outcome must be text, got \(1, 2\)"),
        (None, "`info` of an Outcome must be a mapping of names to numbers, got None"),
    ],
)
def test_info_that_is_no_number_is_told_by_its_name(info: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        outcome(Outcome((Hypothesis(PROMPT, 0.0),), info))


def test_a_score_that_is_no_number_is_told() -> None:
    with pytest.raises(StrategyError, match=r"the score of a Hypothesis must be a real number, but is ndarray.*float"):
        outcome(Outcome((Hypothesis(PROMPT, np.ones(2)),)))  # type: ignore[arg-type]
