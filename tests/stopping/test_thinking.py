"""Thinking: budgets between two marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse
from ovdecode.strategies.stopping.thinking import ThinkingBudget
from ovdecode.vocabulary import Letters, Vocabulary

LETTERS = Vocabulary(26)


def letters(text, prompt=""):
    return LETTERS.prompt(LETTERS.spelling.encode(prompt)) + LETTERS.spelling.encode(text)


def stops(budget, text, prompt=""):
    return budget(letters(text, prompt)) is not None


def test_a_mark_of_one_letter():
    budget = ThinkingBudget(2, "b", "c")
    assert not stops(budget, "xxxxx")
    assert not stops(budget, "bx")
    assert stops(budget, "bxx")
    assert not stops(budget, "bxc")
    assert not stops(budget, "bxcxxxx")
    assert not stops(budget, "bxcbx")
    assert stops(budget, "bxcbxx")
    assert not stops(budget, "cbx")


def test_marks_of_several_tokens():
    budget = ThinkingBudget(3, "in", "out")
    assert not stops(budget, "inou")
    assert not stops(budget, "inout")
    assert stops(budget, "inoux")
    assert not stops(budget, "inoutxxxx")


def test_a_mark_in_the_prompt_counts_and_the_prompts_tokens_do_not():
    budget = ThinkingBudget(2, "b", "c")
    assert not stops(budget, "", prompt="abxxxx")
    assert stops(budget, "xx", prompt="abxxxx")
    assert not stops(budget, "xx", prompt="abxc")
    assert not stops(ThinkingBudget(1, "in", "out"), "n", prompt="i")
    assert stops(ThinkingBudget(1, "in", "out"), "nx", prompt="i")


def test_marks_as_token_ids():
    budget = ThinkingBudget(2, opening=[1, 256], closing=[2])
    prompt = Vocabulary(70_000, spelling=Letters()).prompt([1])
    assert budget(prompt + [256, 5, 5]) is not None
    assert budget(prompt + [256, 5, 2]) is None
    assert budget(prompt + [256 * 256, 5, 5]) is None
    # Written in bytes, 1, 256 ends inside the next id: only whole ids may match.
    assert ThinkingBudget(1, [256], [2])(prompt + [1, 0x01000000 // 256, 5]) is None


def test_special_tokens_are_marks_too():
    class Special(Letters):
        special_ids = frozenset([1, 2])

    prompt = Vocabulary(26, spelling=Special()).prompt([0])
    assert ThinkingBudget(1, "b", "c")(prompt + [1, 4]) is not None


@given(st.text("bcx", max_size=14), st.integers(1, 3))
def test_the_budget_equals_its_definition(text, count):
    thought = text.rpartition("c")[2]
    opened = thought.find("b")
    expected = opened >= 0 and len(thought) - opened - 1 >= count
    assert stops(ThinkingBudget(count, "b", "c"), text) == expected


def test_equal_budgets_share_what_they_remember():
    sequence = letters("bxx")
    ThinkingBudget(1, "b", "c")(sequence)
    ThinkingBudget(2, "b", "c")(sequence)
    assert len(sequence._memo) == 1


@pytest.mark.parametrize(
    "budget",
    [ThinkingBudget(5), ThinkingBudget(5, "[think]", "[/think]"), ThinkingBudget(5, [1, 2], [3])],
    ids=str,
)
def test_spec_strings_come_back(budget):
    assert parse(str(budget), "stopping") == budget
    assert not budget.ends


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: ThinkingBudget(0), "count"),
        (lambda: ThinkingBudget(5, ""), "opening"),
        (lambda: ThinkingBudget(5, opening=3), "opening"),
        (lambda: ThinkingBudget(5, [-1], [2]), "opening"),
        (lambda: ThinkingBudget(5, closing=[]), "closing"),
        (lambda: ThinkingBudget(5, "a", [3]), "closing"),
        (lambda: ThinkingBudget(5, "a", "a"), "closing"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
