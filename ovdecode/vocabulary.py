"""What a decoding method may know about tokens: how many there are, which end a text, what they spell."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from functools import cached_property
from typing import Protocol

from ovdecode.sequence import Sequence


class Spelling(Protocol):
    """The part of a tokenizer that turns ids into text, and back."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The token ids of a text; also those that belong around a whole text, such as a BOS token, if asked for."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token adds to the text (those of its literal for a special token)."""

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are markup, not text."""


class Letters:
    """A spelling for tables and examples: token 0 is "a", token 25 is "z", token 26 is "a1"."""

    special_ids: frozenset[int] = frozenset()

    def token_bytes(self, token: int) -> bytes:
        """The letter of a token, as bytes."""
        turn, letter = divmod(token, 26)
        return (chr(ord("a") + letter) + (str(turn) if turn else "")).encode()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The tokens of a text of lower-case letters."""
        return [ord(letter) - ord("a") for letter in text]


class Vocabulary:
    """The tokens of one model, and the root of the tree of all sequences over them.

    Args:
        size: number of token ids; ids run from 0 to `size` - 1.
        eos_token_ids: the tokens that end a text (a model may have several).
        spelling: turns ids into text; letters when there is no tokenizer.
    """

    def __init__(self, size: int, eos_token_ids: Tokens[int] = (), spelling: Spelling | None = None) -> None:
        self.size = size
        self.eos_token_ids = frozenset(eos_token_ids)
        self.spelling: Spelling = spelling or Letters()

    @cached_property
    def root(self) -> Sequence:
        """The empty sequence, ancestor of every sequence over this vocabulary."""
        return Sequence.root(self)

    def prompt(self, tokens: Tokens[int]) -> Sequence:
        """The sequence of a prompt; prompts with a common beginning share its nodes."""
        return self.root.extend_prompt(tokens)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text as a prompt: with the BOS token, where the spelling adds one, and never an EOS."""
        return [*self._beginning, *self.spelling.encode(text)]

    @cached_property
    def _beginning(self) -> list[int]:
        """What the spelling puts before every text."""
        text, whole = self.spelling.encode("a"), self.spelling.encode("a", add_special_tokens=True)
        return next((whole[:start] for start in range(len(whole)) if whole[start : start + len(text)] == text), [])
