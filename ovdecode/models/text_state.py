"""Text that grows token by token and never shows half a character."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Protocol


class Spelled(Protocol):
    """What can tell the bytes of a token."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token adds to the text."""

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are markup, not text."""


@dataclass(frozen=True)
class TextState:
    r"""The characters finished so far, and the bytes of the one that is not.

    Pushing pieces and finishing gives exactly `bytes.decode("utf-8", "replace")` of all of them together. A
    state is never changed, so it is a fold over a token tree: siblings can push different tokens onto one
    parent's state.

    >>> state = TextState().push(b"caf\xc3")
    >>> state
    TextState(text='caf', pending=b'\xc3')
    >>> state.push(b"\xa9").text
    'café'
    >>> state.finish()
    'caf�'
    """

    text: str = ""
    pending: bytes = b""

    def push(self, piece: bytes) -> TextState:
        """The state after the bytes of one more token."""
        data = self.pending + piece
        characters, consumed = codecs.utf_8_decode(data, "replace", False)
        return TextState(self.text + characters, data[consumed:])

    def push_token(self, spelling: Spelled, token: int, skip_special_tokens: bool = False) -> TextState:
        """The state after one more token; the literal of a special token is left out on request."""
        if skip_special_tokens and token in spelling.special_ids:
            return self
        return self.push(spelling.token_bytes(token))

    def finish(self) -> str:
        """The whole text, with U+FFFD for a character that never ended."""
        return self.text + self.pending.decode("utf-8", "replace")
