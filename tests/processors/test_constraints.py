"""Constraints: literal languages over letters, exact distributions, and real JSON, dates and brackets."""

from __future__ import annotations

import ast
import gc
import json
import re
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdecode import (
    Candidates,
    Grammar,
    Greedy,
    JsonSchema,
    Model,
    NoRepeatNgram,
    Regex,
    Sampling,
    Sequence,
    SuppressedTokens,
    TableRunner,
    Task,
    Vocabulary,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, LogitsError, PromptError
from ovdecode.processor import LogitsProcessor
from ovdecode.strategies.processors.constraints import Constraint
from ovdecode.strategies.processors.matching import SPACING, State
from ovdecode.testing import distribution

EOS = 5
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colour": {"enum": ["red", "green", "blue"]},
    },
    "required": ["name", "age", "colour"],
    "additionalProperties": False,
}


def letters() -> Sequence:
    """A prompt over the letters a to e, and an end."""
    return Vocabulary(6, [EOS]).prompt([0])


def ids(constraint: LogitsProcessor, sequence: Sequence) -> list[int]:
    return constraint(Candidates(np.zeros(sequence.vocabulary.size, np.float32)), sequence).ids.tolist()


class Pieces:
    """A spelling given token by token."""

    special_ids: frozenset[int] = frozenset()

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("generated", "allowed"),
    [
        ([], [0]),
        ([0], [1, 2]),
        ([0, 1], [1, 2]),
        ([0, 1, 1], [1, 2]),
        ([0, 2], [EOS]),
        ([0, 1, 2], [EOS]),
        ([0, 2, EOS], [EOS]),
    ],
)
def test_a_regex_over_letters(generated: list[int], allowed: list[int]) -> None:
    assert ids(Regex("ab*c"), letters() + generated) == allowed


def test_the_end_is_possible_where_the_text_is_complete_and_can_go_on() -> None:
    assert ids(Regex("a(b|cd)*"), letters() + 0) == [1, 2, EOS]
    assert ids(Regex("a(b|cd)*"), letters() + [0, 2]) == [3]


def test_a_token_may_be_any_part_of_the_text() -> None:
    vocabulary = Vocabulary(7, [6], Pieces(b"a", b"b", b"ab", b"aba", b"bb", b"", b"end"))
    prompt = vocabulary.prompt([0])
    assert ids(Regex("aba?"), prompt) == [0, 2, 3]  # "", which spells nothing, never is
    assert ids(Regex("aba?"), prompt + 0) == [1]
    assert ids(Regex("aba?"), prompt + 2) == [0, 6]


def test_bytes_of_a_character_may_be_several_tokens() -> None:
    vocabulary = Vocabulary(4, [3], Pieces(b"\xc3", b"\xa9", b"\xb6", b"end"))
    prompt = vocabulary.prompt([0])
    assert ids(Regex("é"), prompt) == [0]
    assert ids(Regex("é"), prompt + 0) == [1]
    assert ids(Regex("é"), prompt + [0, 1]) == [3]


def test_a_reopened_prompt_must_end_after_a_whole_character() -> None:
    prompt = Vocabulary(4, [3], Pieces(b"a", b"\xc3", b"\xa9", b"end")).prompt([0, 0, 1])
    assert ids(Regex("a"), prompt[:2].reopen(1)) == [0]  # the "a" that is owed, and not yet the one of the language
    assert ids(Regex("a"), prompt[:2].reopen(1) + [0, 0]) == [3]
    with pytest.raises(PromptError, match=r"must end after a whole character, but the last one is cut: b'\\xc3'"):
        ids(Regex("a"), prompt.reopen(1))


def test_several_tokens_that_end_a_text_and_none() -> None:
    assert ids(Regex("a"), Vocabulary(4, [2, 3]).prompt([0]) + 0) == [2, 3]
    endless = Vocabulary(4).prompt([0]) + 0
    assert ids(Regex("a"), endless) == []
    with pytest.raises(LogitsError, match="no token is left possible: a constraint is at a dead end"):
        Regex("a")(Candidates(np.zeros(4)), endless).argmax()


def test_the_token_that_ends_a_text_is_no_text() -> None:
    # Its letter is "f", as if a marker were spelled like a word of the language.
    assert ids(Regex("[a-z]"), letters()) == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(0, 4), max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_is_allowed_is_what_python_says(tokens: list[int]) -> None:
    """All texts of up to 7 letters that match, written out: a token is allowed if one of them goes on with it."""
    constraint, sequence = Regex("(ab|c{2}|d[ae]?)*b?"), letters() + tokens
    text = "".join("abcde"[token] for token in tokens)
    words = [word for word in _language() if word.startswith(text)]
    if not words:
        with pytest.raises(LogitsError, match="does not allow the text"):
            ids(constraint, sequence)
        return
    following = {"abcde".index(word[len(text)]) for word in words if len(word) > len(text)}
    assert ids(constraint, sequence) == sorted(following | ({EOS} if text in words else set()))


def _language() -> list[str]:
    words, grown = [""], [""]
    while grown:
        grown = [word + more for word in grown for more in ("ab", "cc", "d", "da", "de") if len(word + more) <= 7]
        words += grown
    words += [word + "b" for word in words]
    assert all(re.fullmatch("(ab|c{2}|d[ae]?)*b?", word) for word in words)
    return words


def test_a_grammar_counts() -> None:
    nested = Grammar('start: "b" | "a" start "c"')
    assert ids(nested, letters() + [0, 0]) == [0, 1]
    assert ids(nested, letters() + [0, 0, 1]) == [2]
    assert ids(nested, letters() + [0, 0, 1, 2]) == [2]
    assert ids(nested, letters() + [0, 0, 1, 2, 2]) == [EOS]


def test_a_schema_in_the_order_of_its_properties() -> None:
    vocabulary = Vocabulary(9, [8], Pieces(b'{"', b"a", b"b", b'":', b"1", b',"', b"}", b" ", b"end"))
    prompt = vocabulary.prompt([0])
    schema = {"type": "object", "properties": {"b": {"const": 1}, "a": {"const": 1}}, "required": ["b", "a"]}
    text: list[int] = []
    for token in [0, 2, 3, 4, 5, 1, 3, 4, 6]:
        assert token in ids(JsonSchema(schema), prompt + text)
        assert ids(JsonSchema(schema), prompt + text) in ([token], sorted([token, 7]), sorted([token, 5]), [5, 6, 7])
        text.append(token)
    assert ids(JsonSchema(schema | {"additionalProperties": False}), prompt + text) == [8]


def test_constraints_meet() -> None:
    both = Regex("a*b*") | Regex("(ab)*")
    assert ids(both, letters()) == [0, EOS]
    assert ids(both, letters() + 0) == [1]
    assert ids(both, letters() + [0, 1]) == [EOS]


def test_candidates_keep_their_logits_dense_and_narrowed() -> None:
    row = np.array([1, 2, 3, 4, 5, 6], np.float32)
    assert repr(Regex("[bd]")(Candidates(row), letters())) == "Candidates({1: 2, 3: 4})"
    assert repr(Regex("[bd]")(Candidates(row).at(np.array([0, 3])), letters())) == "Candidates({3: 4})"


def test_a_dead_end_is_an_error() -> None:
    model = Model(TableRunner({(): np.zeros(6)}), [EOS])
    with pytest.raises(LogitsError, match="no token is left possible"):
        model.generate([0], Greedy(processors=SuppressedTokens([0]) | Regex("ab")), max_new_tokens=4)
    with pytest.raises(LogitsError, match="a constraint is at a dead end"):
        model.generate([0], Greedy(processors=Regex("abz")), max_new_tokens=4)


def test_a_dead_end_stays_one() -> None:
    constraint, sequence = Regex("az"), letters() + 0
    assert [ids(constraint, sequence) for _ in range(2)] == [[], []]
    with pytest.raises(LogitsError, match="does not allow the text 'ab'"):
        ids(constraint, sequence + 1)


@pytest.mark.parametrize("generated", [[1], [0, 3], [0, 2, 0], [EOS], [0, EOS], [0, 2, EOS, 2], [0, 3, 1, 1]])
def test_text_outside_the_language_is_an_error(generated: list[int]) -> None:
    with pytest.raises(LogitsError, match=r"`regex` does not allow the text .* were tokens chosen that are not among"):
        ids(Regex("ab*c"), letters() + generated)


def test_siblings_do_not_see_each_other() -> None:
    constraint = Regex("a(b{20,}c|d*e)")
    stem = letters() + 0
    left, right = stem, stem
    for _ in range(2 * SPACING + 5):  # past several parsers that are kept, step by step in turns
        left, right = left + 1, right + 3
        assert ids(constraint, right) == [3, 4]
        assert ids(constraint, left) == ([1, 2] if left.generated_length > 20 else [1])
    assert ids(constraint, stem) == [1, 3, 4]
    assert ids(constraint, left[:10]) == [1]  # tokens taken back
    assert ids(constraint, left[:10] + [1] * 30 + [2]) == [EOS]


def test_parsers_are_kept_sparsely() -> None:
    constraint, prompt = Regex("[ab]*"), letters()
    ends = prompt.vocabulary.eos_token_ids  # an object of its own, by which its states are known
    beams = [prompt + [0, 0, 0][:number] + [1] * (200 - number) for number in range(4)]
    for beam in beams:
        constraint(Candidates(np.zeros(6)), beam)
    gc.collect()
    states = [state for state in gc.get_objects() if isinstance(state, State) and state.eos_token_ids is ends]
    parsers = sum(state._matcher is not None for state in states)
    assert len(states) > 4 * 196
    assert parsers <= 4 * (200 // SPACING + 2) + 1


def test_equal_constraints_share_their_states() -> None:
    sequence = letters() + [0, 1, 1]
    assert Regex("ab*c").state(sequence) is Regex("ab*c").state(sequence)
    assert Regex("ab*c").state(sequence) is not Regex("ab*c?").state(sequence)


def test_nothing_holds_a_vocabulary() -> None:
    constraint = Regex("ab*")
    vocabulary = Vocabulary(6, [EOS])
    ids(constraint, vocabulary.prompt([0]) + 0)
    gone = weakref.ref(vocabulary)
    del vocabulary
    gc.collect()
    assert gone() is None


def test_sampling_is_normalised_token_by_token() -> None:
    # a: 1/2, b: 1/4, c: 1/8, d: 1/8, and no end. "aa" or "b" or "bc": the first choice is between a and b alone.
    model = Model(TableRunner({(): np.log([0.5, 0.25, 0.125, 0.0625, 0.0625])}), [4])
    exact = distribution(Sampling(processors=Regex("aa|bc?")), model, [0], max_new_tokens=3)
    assert exact == pytest.approx(
        {
            (0, 0, 4): 2 / 3,
            (1, 4): 1 / 3 * (0.0625 / 0.1875),
            (1, 2, 4): 1 / 3 * (0.125 / 0.1875),
        }
    )


def test_the_law_of_sampling_by_its_definition() -> None:
    """Every way through the language, its probability computed from the table alone."""

    def row(tokens: tuple[int, ...]) -> Any:
        return np.random.default_rng(tokens).normal(0, 1, 4)

    model = Model(TableRunner(row), [3])
    expected: dict[tuple[int, ...], float] = {}

    def walk(tokens: tuple[int, ...], probability: float) -> None:
        text = "".join("abc"[token] for token in tokens if token < 3)
        if len(tokens) == 3 or (tokens and tokens[-1] == 3):
            expected[tokens] = probability
            return
        words = [word for word in ("", "a", "ab", "abc", "ca", "cab", "bbb") if word.startswith(text)]
        following = {"abc".index(word[len(text)]) for word in words if len(word) > len(text)}
        following |= {3} if text in words else set()
        weights = {token: float(np.exp(row((0, *tokens))[token])) for token in following}
        for token, weight in weights.items():
            walk((*tokens, token), probability * weight / sum(weights.values()))

    walk((), 1.0)
    exact = distribution(Sampling(processors=Regex("(a(bc?)?|cab?|bbb)?")), model, [0], max_new_tokens=3)
    assert exact == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Regex("a("), r"`pattern` of `regex` must be a regular expression \(.*unclosed group"),
        (lambda: Regex("(?=a)b"), "`pattern` of `regex` .*look-around"),
        (lambda: Regex(3), "`pattern` of `regex` must be text, got 3"),
        (lambda: Grammar("start: foo"), r"`lark` of `grammar` must be a Lark grammar \(.*unknown name: \"foo\""),
        (lambda: Grammar(""), "`lark` of `grammar` must be a Lark grammar"),
        (lambda: JsonSchema("{"), "`schema` of `json_schema` must be a JSON schema .*Expecting property name"),
        (lambda: JsonSchema([]), "`schema` of `json_schema` must be a JSON schema, such as"),
        (lambda: JsonSchema("true"), "`schema` of `json_schema` must be a JSON schema, such as"),
        (lambda: JsonSchema({"type": {1}}), "`schema` of `json_schema` must be a JSON schema .*not JSON serializable"),
        (lambda: JsonSchema({"type": "strin"}), "`schema` of `json_schema` .*Invalid type: strin"),
        (lambda: JsonSchema({"not": {}}), "`schema` of `json_schema` .*Unimplemented keys"),
    ],
)
def test_what_is_no_language_is_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        make()


def test_a_special_token_that_the_model_lacks_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"does not fit this model's vocabulary: .*nonsense"):
        ids(Grammar('start: "a" <|nonsense|>'), letters())


def test_without_llguidance_a_constraint_is_built_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    constraint = Regex("a(")
    with pytest.raises(ConfigurationError, match=r"pip install 'ovdecode\[grammar\]'"):
        ids(constraint, letters())


def test_without_llguidance_every_plugin_is_listed() -> None:
    code = """
import sys
sys.modules["llguidance"] = None
from ovdecode.registry import broken, names
assert not broken("processor") and {"json_schema", "regex", "grammar"} <= set(names("processor"))
assert not broken("stopping") and "grammar_complete" in names("stopping")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    "constraint",
    [
        JsonSchema(),
        JsonSchema({}),
        JsonSchema(PERSON),
        JsonSchema({"const": 'a"b{\\}\n'}),
        Regex(r"\d{3}/\d{4}[\"]=|(a,b)"),
        Regex("a{2}"),
        Regex("[{]}"),
        Grammar('start: "a" | "{" start "}"\n'),
    ],
)
def test_spec_round_trip(constraint: Constraint) -> None:
    assert parse(str(constraint), "processor") == constraint
    assert parse(str(Greedy(processors=constraint | NoRepeatNgram(3)))).processors.stages[0] == constraint


def test_a_schema_as_it_stands_in_a_spec() -> None:
    text = json.dumps(PERSON, indent=1)
    method = parse(f"sampling:processors=(json_schema:schema={text}|top_k:k=5),temperature=0.5")
    assert isinstance(method, Sampling)
    assert method.processors.stages[0] == JsonSchema(PERSON) == JsonSchema(text)
    assert f"schema={json.dumps(PERSON, separators=(',', ':'))}" in str(method)


@pytest.mark.parametrize("pattern", ["a/b", r"a\/b", "a\nb", "a\\\nb", "[/]", r"\\/", "", r"a\.b"])
def test_a_regex_may_hold_what_lark_uses_itself(pattern: str) -> None:
    """Slashes and new lines; judged by Python's `re` on the texts of these characters."""
    pieces = (b"a", b"/", b"b", b"\n", b"\\", b".", b"end")
    prompt = Vocabulary(7, [6], Pieces(*pieces)).prompt([0])
    for word in ("", "a/b", "a\nb", "/", "\\/", "a.b", "\\"):
        tokens = [pieces.index(letter.encode()) for letter in word]
        state = Regex(pattern).state(prompt + tokens)
        assert state.complete == (re.fullmatch(pattern, word) is not None), word


# On a real model

PROMPT = "A person as JSON: "


def person(text: str) -> None:
    found = json.loads(text)
    assert list(found) == ["name", "age", "colour"]
    assert isinstance(found["name"], str)
    assert len(found["name"]) <= 12
    assert type(found["age"]) is int
    assert 0 <= found["age"] <= 120
    assert found["colour"] in PERSON["properties"]["colour"]["enum"]  # type: ignore[index]


SCHEMA = f"json_schema:schema={json.dumps(PERSON)}"


@pytest.mark.parametrize(
    "spec",
    [
        f"greedy:processors=({SCHEMA})",
        f"sampling:processors=({SCHEMA})",
        f"beam:num_beams=3,processors=(repetition:penalty=1.2|{SCHEMA})",
        f"speculative:strategy=(sampling:temperature=0.8),processors=({SCHEMA})",
        f"best_of_n:n=3,strategy=(sampling:processors=({SCHEMA}))",
    ],
    ids=["greedy", "sampling", "beam", "speculative", "best_of_n"],
)
def test_json_of_a_schema_in_every_search(spec: str, model: Model) -> None:
    generation = model.generate(PROMPT, spec, max_new_tokens=80)
    assert generation.error is None
    assert str(generation.stop_reason).startswith("eos"), generation.text
    for each in generation.alternatives:
        person(each.text)


def test_speculative_is_greedy_under_a_schema(model: Model) -> None:
    plain, fast = (
        model.generate(PROMPT, f"{method}:processors=({SCHEMA})", max_new_tokens=24)
        for method in ("greedy", "speculative")
    )
    assert fast.tokens == plain.tokens


@pytest.mark.parametrize(
    ("constraint", "prompt"),
    [
        (Regex("(19|20)[0-9]{2}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])"), "The date in ISO format is "),
        (Regex(r"\+[0-9]{2} \([0-9]{3}\) [0-9]{3}-[0-9]{4}"), "Call me at "),
    ],
)
def test_a_date_and_a_telephone_number(constraint: Regex, prompt: str, model: Model) -> None:
    for generation in run(Task(model, prompt, Sampling(processors=constraint), 40, seed=seed) for seed in range(3)):
        assert re.fullmatch(constraint.pattern, generation.text), generation.text


ARITHMETIC = """
start: sum
sum: product ("+" product)*
product: factor ("*" factor)*
factor: NUMBER | "(" sum ")"
NUMBER: /[1-9][0-9]?/
"""


def test_arithmetic_in_brackets(model: Model) -> None:
    method = Sampling(temperature=0.7, processors=Grammar(ARITHMETIC))
    generations = list(run(Task(model, "3*(1+2)\n5+(2*2)\n", method, 32, seed=seed) for seed in range(4)))
    complete = [each.text for each in generations if each.stop_reason is not None and each.stop_reason.name == "eos"]
    assert any("(" in text for text in complete)
    for text in complete:
        assert re.fullmatch(r"[0-9+*()]+", text)
        ast.parse(text, mode="eval")  # the brackets are balanced


def test_two_languages_in_one_batch(model: Model) -> None:
    date, person_schema = Regex("[0-9]{4}-[0-9]{2}"), JsonSchema(PERSON)
    tasks = [
        Task(model, PROMPT, Sampling(processors=constraint), 80, seed=seed)
        for seed, constraint in enumerate((date, person_schema, date))
    ]
    for generation in run(tasks):
        assert generation.error is None
        if generation.task.method.processors == date:
            assert re.fullmatch(date.pattern, generation.text)
        else:
            person(generation.text)


def test_special_tokens_are_not_spelled_out(model: Model) -> None:
    """The literal of a special token is text to a regex, and the token itself never is."""
    constraint, vocabulary = Regex(r"<\|im_end\|>"), model.vocabulary
    allowed = constraint.allowed(vocabulary.prompt([1]))
    assert not allowed[sorted(vocabulary.spelling.special_ids)].any()
    assert {vocabulary.spelling.token_bytes(int(token)) for token in np.flatnonzero(allowed)} == {b"<"}
