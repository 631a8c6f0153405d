"""Text grows token by token and never shows half a character."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ovdecode.text import TextState, generated_text
from ovdecode.vocabulary import Vocabulary


class Spelling:
    """Token 0 is markup; any other token is the bytes given."""

    special_ids = frozenset({0})

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = (b"<|end|>", *pieces)

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]

    def encode(self, text: str) -> list[int]:
        raise AssertionError("nothing is encoded here")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def fold(pieces: list[bytes]) -> TextState:
    state = TextState()
    for piece in pieces:
        state = state.push(piece)
    return state


def test_a_character_in_two_tokens_appears_once_it_is_whole() -> None:
    half = TextState().push(b"caf\xc3")
    assert (half.text, half.pending) == ("caf", b"\xc3")
    assert half.push(b"\xa9!").text == "café!"


def test_siblings_do_not_disturb_each_other() -> None:
    parent = TextState().push(b"\xf0\x9f\x98")
    assert parent.push(b"\x80").text == "😀"
    assert parent.push(b"\x81").text == "😁"
    assert (parent.text, parent.pending) == ("", b"\xf0\x9f\x98")


def test_a_character_that_never_ends_is_shown_only_when_finished() -> None:
    state = TextState().push(b"a\xe6\x97")
    assert state.text == "a"
    assert state.finish() == "a\ufffd"


def test_a_character_broken_off_is_replaced_at_once() -> None:
    assert TextState().push(b"\xe6\x97").push(b"b").text == "\ufffdb"


def test_special_tokens_are_left_out_of_generated_text() -> None:
    prompt = Vocabulary(3, [0], Spelling(b"\xc3", b"\xa9")).prompt([1])
    assert generated_text(prompt + [1, 0, 2]) == "é"
    assert generated_text(prompt + [0, 1]) == ""
    assert generated_text(prompt + [0, 1], final=True) == "\ufffd"


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=12))
def test_any_bytes_cut_anywhere_give_the_decoded_whole(data: bytes, places: list[int]) -> None:
    state = fold(cut(data, places))
    assert state.finish() == data.decode("utf-8", "replace")
    assert state.finish().startswith(state.text)


@given(st.text(max_size=20), st.lists(st.integers(0, 80), max_size=12))
def test_valid_text_is_never_shown_with_a_replacement(text: str, places: list[int]) -> None:
    state = TextState()
    for piece in cut(text.encode("utf-8"), places):
        state = state.push(piece)
        assert text.startswith(state.text)
    assert (state.text, state.pending) == (text, b"")
