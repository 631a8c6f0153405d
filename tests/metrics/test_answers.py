from __future__ import annotations

import math
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import ExactMatch, NumericAnswer, PassAtK, parse
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result, TextMetric

# The first problem of GSM8K's training set, and its answer as it stands there.
NATALIA = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 72.", "72"),
        ("She has $1,234.50 left", "1234.50"),
        ("-5", "-5"),
        ("It fell to -$3", "-3"),
        ("20-18", "18"),
        ("so x=-2", "-2"),
        ("1,2,3", "3"),
        ("12,3456", "3456"),
        ("about .5", "0.5"),
        ("**18**", "18"),
        ("\\boxed{18}", "18"),
        ("18%", "18"),
        ("in 2 steps #### 18\nQ: What is 3 + 4?", "18"),
        ("It is 1,000,000!", "1000000"),
        (NATALIA, "72"),
    ],
)
def test_the_number_that_a_text_answers_with(text: str, number: str) -> None:
    assert NumericAnswer().number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none at all", "seven", "see ####", "3 but #### unknown", "A4 v1.2"])
def test_a_text_without_a_number(text: str) -> None:
    assert NumericAnswer().number(text) is None
    assert NumericAnswer()(Result(text, references=(NATALIA,))) == 0.0


def test_gsm8k() -> None:
    metric = NumericAnswer()
    assert metric(Result("48 + 24 = 72.00 clips", references=(NATALIA,))) == 1.0
    assert metric(Result("24 + 48 = 72, so 73", references=(NATALIA,))) == 0.0
    assert metric(Result("5", references=("4", "5"))) == 1.0
    assert metric(Result("So: 7, or 8", references=("the answer: 7",))) == 0.0
    assert NumericAnswer(marker="So:")(Result("2 So: 7, or 8", references=("the answer: 7",))) == 1.0


def test_without_a_reference_there_is_no_number() -> None:
    assert math.isnan(NumericAnswer()(Result("5")))
    assert math.isnan(NumericAnswer()(Result("5", references=("five",))))


def attempts(right: int, wrong: int, prompt: str = "2 + 2 =") -> list[Result]:
    return [Result(text, prompt=prompt, references=("4",)) for text in ["4"] * right + ["5"] * wrong]


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_all_choices_of_k(right: int, wrong: int, k: int) -> None:
    tried = attempts(right, wrong)
    if k > len(tried) > 0:
        with pytest.raises(ConfigurationError, match=f"`k` of `pass_at_k` must be at most the {len(tried)} attempts"):
            PassAtK(k)(tried)
        return
    chosen = [any(each.text == "4" for each in few) for few in combinations(tried, k)]
    expected = sum(chosen) / len(chosen) if chosen else math.nan
    assert PassAtK(k)(tried) == pytest.approx(expected, nan_ok=True)


def test_prompts_count_the_same_and_attempts_without_a_verdict_not_at_all() -> None:
    both = attempts(1, 1) + attempts(4, 0, "3 + 1 =")
    assert PassAtK()(both) == pytest.approx((1 / 2 + 1) / 2)
    assert PassAtK()([*both, Result("4", prompt="no reference")]) == PassAtK()(both)
    assert math.isnan(PassAtK()([]))


def test_any_metric_may_say_what_is_right() -> None:
    metric = parse("pass_at_k:k=2,metric=(exact_match)", "metric")
    assert metric == PassAtK(2, ExactMatch())
    assert metric(attempts(1, 2)) == pytest.approx(2 / 3)


def test_a_verdict_that_fails_fails_the_whole() -> None:
    class Failing(TextMetric):
        def __call__(self, result: Result) -> float:
            raise ArithmeticError("no verdict")

    with pytest.raises(ArithmeticError, match="no verdict"):
        PassAtK(metric=Failing())(attempts(1, 1))


def test_parameters_out_of_range_are_named() -> None:
    with pytest.raises(ConfigurationError, match="`k` of `pass_at_k` must be a whole number of at least 1, got 0"):
        PassAtK(k=0)
    with pytest.raises(ConfigurationError, match="`metric` of `pass_at_k` must be a metric"):
        PassAtK(metric=PassAtK())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`marker` of `numeric_answer`"):
        NumericAnswer(marker="")
