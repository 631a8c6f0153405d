"""Text: strings and patterns across the borders of tokens, and never half a character."""

from __future__ import annotations

import re
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse
from ovdecode.strategies.stopping.text import StopRegex, StopString
from ovdecode.text import generated_text, text_state
from ovdecode.vocabulary import Vocabulary


class Pieces:
    """A spelling of given pieces; token 0 is special."""

    def __init__(self, *pieces):
        self.pieces = pieces
        self.special_ids = frozenset([0])

    def token_bytes(self, token):
        return self.pieces[token]

    def encode(self, text):
        raise AssertionError("a stop reads text, it does not encode any")


SPELLING = Pieces(b"</s>", b"end", b"en", b"d", b"x end", b"\xc3", b"\xa9", b"!", b"\n", b"a")
PROMPT = Vocabulary(10, spelling=SPELLING).prompt([9, 2])


def stop(criterion, tokens):
    reason = criterion(PROMPT + tokens)
    return reason and (reason.detail, reason.text_end)


def test_text_leaves_out_prompt_special_tokens_and_half_characters():
    assert generated_text(PROMPT) == ""
    assert generated_text(PROMPT + [9, 0, 9]) == "aa"
    assert generated_text(PROMPT + [9, 5]) == "a"
    assert generated_text(PROMPT + [9, 5, 6]) == "aé"
    assert generated_text(PROMPT + [9, 5, 9]) == "a�a"


def test_siblings_complete_a_character_each_in_its_own_way():
    half = PROMPT + [9, 5]
    assert generated_text(half + 6) == "aé"
    assert generated_text(half + 7) == "a�!"
    assert generated_text(half + 6) == "aé"


byte_pieces = st.lists(st.one_of(st.binary(max_size=3), st.text(max_size=2).map(str.encode)), max_size=20)


@given(byte_pieces, st.integers(1, 40))
def test_text_is_that_of_all_bytes_together(pieces, times):
    pieces = pieces * times
    sequence = Vocabulary(len(pieces) + 1, spelling=Pieces(b"", *pieces)).root + range(1, len(pieces) + 1)
    state = text_state(sequence)
    data = b"".join(pieces)
    assert state.text + state.pending.decode("utf-8", "replace") == data.decode("utf-8", "replace")


def test_long_text_is_shared_between_nodes():
    sequence = PROMPT + [4] * 1000
    assert generated_text(sequence) == "x end" * 1000
    texts = {id(text_state(node).settled): len(text_state(node).settled) for node in sequence.path(2)}
    assert sum(texts.values()) < 100 * 5000


def test_a_stop_string_is_found_across_tokens():
    assert stop(StopString("end"), [9, 2]) is None
    assert stop(StopString("end"), [9, 2, 3]) == ("end", 1)
    assert stop(StopString("end"), [9, 1]) == ("end", 1)
    assert stop(StopString("end"), [9, 4, 7]) == ("end", 3)
    assert stop(StopString("end", keep=True), [9, 4, 7]) == ("end", 6)
    assert stop(StopString("end"), [3]) is None  # the prompt's "en" does not count


def test_a_special_token_does_not_part_a_stop_string():
    assert stop(StopString("end"), [2, 0, 3]) == ("end", 0)


def test_a_stop_string_waits_for_the_whole_character():
    assert stop(StopString("é"), [9, 5]) is None
    assert stop(StopString("é"), [9, 5, 6]) == ("é", 1)


def test_of_several_the_one_complete_first_counts():
    assert stop(StopString(["x end", "en"]), [4]) == ("en", 2)
    assert stop(StopString(["end", "x end"]), [4]) == ("x end", 0)


def test_a_stop_string_is_not_missed_by_asking_late():
    assert stop(StopString("end"), [9, 1, 9, 9]) == ("end", 1)


@given(
    st.text("ab", max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3),
    st.data(),
)
def test_how_the_text_is_cut_changes_nothing(text, strings, data):
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    borders = [0, *cuts, len(text)]
    pieces = [text[begin:end].encode() for begin, end in pairwise(borders)]
    sequence = Vocabulary(len(pieces) + 1, spelling=Pieces(b"", *pieces)).root + range(1, len(pieces) + 1)
    letters = Vocabulary(2).root
    first = None
    for letter in text:
        letters += ord(letter) - ord("a")
        first = first or StopString(strings)(letters)
    assert StopString(strings)(sequence) == first


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_is_not_withheld_is_never_cut_off(text, strings):
    criterion, shown, sequence = StopString(strings), 0, Vocabulary(2).root
    for letter in text:
        sequence += ord(letter) - ord("a")
        reason = criterion(sequence)
        if reason:
            assert reason.text_end >= shown
            return
        shown = max(shown, sequence.length - criterion.withheld)


def test_withheld():
    assert StopString("end").withheld == 2
    assert StopString(["end", "the end"]).withheld == 6
    assert StopString("end", keep=True).withheld == 0
    assert StopRegex("a+").withheld == sys.maxsize
    assert StopRegex("a+", keep=True).withheld == 0
    assert (StopString("end") | StopString("a")).withheld == 2


def test_a_pattern_is_found_across_tokens():
    assert stop(StopRegex("e.d"), [9, 2]) is None
    assert stop(StopRegex("e.d"), [9, 2, 3]) == ("end", 1)
    assert stop(StopRegex("e.d", keep=True), [9, 2, 3, 7]) == ("end", 4)
    assert stop(StopRegex(r"\n\s*\n"), [9, 8, 8]) == ("\n\n", 1)


@given(st.text("ab", max_size=10))
def test_a_pattern_is_what_re_finds(text):
    sequence = Vocabulary(2).root + [ord(letter) - ord("a") for letter in text]
    match = re.search("ab+a", text)
    reason = StopRegex("ab+a")(sequence)
    assert (reason and reason.text_end) == (match and match.start())


@pytest.mark.parametrize(
    "criterion",
    [
        StopString("end"),
        StopString("\n\n"),
        StopString('"quoted" \\ é'),
        StopString("3"),
        StopString("none", keep=True),
        StopString(["end", "\n", "7", "a,b]"]),
        StopRegex(r"\n\d+\. "),
        StopRegex("[\"']", keep=True),
    ],
    ids=str,
)
def test_spec_strings_come_back(criterion):
    again = parse(str(criterion), "stopping")
    assert again == criterion
    assert hash(again) == hash(criterion)


def test_one_string_in_a_list_is_one_string():
    assert StopString(["end"]) == StopString("end")


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: StopString(""), "string"),
        (lambda: StopString([]), "string"),
        (lambda: StopString(["end", ""]), "string"),
        (lambda: StopString(3), "string"),
        (lambda: StopString("end", keep="yes"), "keep"),
        (lambda: StopRegex("("), "pattern"),
        (lambda: StopRegex("a*"), "pattern"),
        (lambda: StopRegex(3), "pattern"),
        (lambda: StopRegex("a", keep=1), "keep"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
