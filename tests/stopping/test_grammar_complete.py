from __future__ import annotations

import json

import numpy as np
import pytest

from ovdecode import (
    Grammar,
    GrammarComplete,
    Greedy,
    JsonSchema,
    Model,
    Regex,
    Speculative,
    TableRunner,
    Temperature,
    Vocabulary,
    parse,
)
from ovdecode.errors import ConfigurationError

PROMPT = Vocabulary(27, [26]).prompt([0])


def text(letters: str) -> list[int]:
    return [26 if letter == "." else ord(letter) - ord("a") for letter in letters]


@pytest.mark.parametrize(
    ("generated", "closed", "complete"),
    [
        ("", False, False),
        ("a", False, True),
        ("ab", False, True),
        ("abc", True, True),
        ("abcd", False, False),
        ("ab.", True, True),
        ("ab.c", False, False),
        (".", False, False),
        ("b", False, False),
    ],
)
def test_complete_and_closed(generated: str, closed: bool, complete: bool) -> None:
    sequence = PROMPT + text(generated)
    assert bool(GrammarComplete(Regex("a(bc?)?"))(sequence)) == closed
    assert bool(GrammarComplete(Regex("a(bc?)?"), earliest=True)(sequence)) == complete


def test_the_empty_text_counts() -> None:
    assert GrammarComplete(Regex("a*"), earliest=True)(PROMPT)
    assert not GrammarComplete(Regex("a*"))(PROMPT)
    assert GrammarComplete(Regex(""))(PROMPT)


def test_the_reason_names_the_constraint() -> None:
    reason = GrammarComplete(Grammar('start: "a" "b"'))(PROMPT + [0, 1])
    assert str(reason) == "grammar_complete(grammar)"
    assert reason is not None
    assert reason.text_end is None


def test_siblings_do_not_see_each_other() -> None:
    criterion, stem = GrammarComplete(Regex("ab|acd")), PROMPT + 0
    left, right = stem + 1, stem + 2
    assert [bool(criterion(each)) for each in (left, right, left, stem, right + 3)] == [1, 0, 1, 0, 1]


def test_it_ends_a_text_without_a_token_that_does() -> None:
    model = Model(TableRunner({(): np.zeros(3)}))
    generation = model.generate(
        [0], Greedy(processors=Regex("bca")), max_new_tokens=9, stop=GrammarComplete(Regex("bca"))
    )
    assert (generation.text, str(generation.stop_reason)) == ("bca", "grammar_complete(regex)")


def test_a_draft_may_leave_the_language() -> None:
    """The drafts of prompt lookup are no text of the language, and the criterion is asked about them."""
    model = Model(TableRunner({(): np.zeros(4)}))
    method = Speculative(Greedy(processors=Regex("(ab)*c")))
    generation = model.generate([0, 1, 3, 3, 0, 1], method, max_new_tokens=6, stop=GrammarComplete(Regex("(ab)*c")))
    assert generation.text == "ababab"


def test_parameters() -> None:
    criterion = GrammarComplete(JsonSchema({"type": "integer"}), earliest=True)
    spec = 'grammar_complete:constraint=(json_schema:schema={"type":"integer"}),earliest=true'
    assert str(criterion) == spec
    assert parse(spec, "stopping") == criterion
    with pytest.raises(ConfigurationError, match="must be a processor: json_schema or regex or grammar"):
        GrammarComplete(Temperature(1.0))  # type: ignore[arg-type]


def test_json_on_a_real_model(model: Model) -> None:
    schema = 'json_schema:schema={"type":"array","items":{"type":"integer"},"maxItems":3}'
    generation = model.generate(
        "Three numbers: ",
        f"greedy:processors=({schema})",
        stop=f"grammar_complete:constraint=({schema})",
        ignore_eos=True,
    )
    assert str(generation.stop_reason) == "grammar_complete(json_schema)"
    assert all(type(number) is int for number in json.loads(generation.text))
