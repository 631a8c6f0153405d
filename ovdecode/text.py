"""The generated text of a sequence, decoded once for each token and never shown with half a character."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from ovdecode.errors import StrategyError
from ovdecode.fold import Fold
from ovdecode.sequence import Sequence

_RECENT = 256


class TextState(NamedTuple):
    r"""Text that grows by pieces of bytes and never shows half a character.

    Pushing pieces and finishing gives exactly `bytes.decode("utf-8", "replace")` of all of them together. Two strings
    instead of one keep memory small where every node of a tree has a state: the first is the same object in long runs.

    Attributes:
        settled: the text but for its end.
        recent: its end.
        pending: the bytes of a character that is not complete yet.
        owed: the bytes that come before the text begins, as the end of a prompt that was reopened.

    Example:
        >>> TextState().push(b"caf\xc3").text
        'caf'
        >>> TextState().push(b"caf\xc3").push(b"\xa9").text
        'café'
    """

    settled: str = ""
    recent: str = ""
    pending: bytes = b""
    owed: bytes = b""

    @property
    def text(self) -> str:
        """The complete characters so far."""
        return self.settled + self.recent

    def push(self, piece: bytes) -> TextState:
        """The state after more bytes."""
        data = self.pending + piece
        characters, consumed = codecs.utf_8_decode(data, "replace", False)
        recent = self.recent + characters
        if len(recent) > _RECENT:
            return TextState(self.settled + recent, "", data[consumed:])
        return TextState(self.settled, recent, data[consumed:])

    def pay(self, piece: bytes) -> TextState:
        """The state after more bytes, of which the first are those owed.

        Raises:
            StrategyError: if they are not.
        """
        size = min(len(piece), len(self.owed))
        if piece[:size] != self.owed[:size]:
            raise StrategyError(
                f"what is generated after a reopened prompt must spell {self.owed!r} first, but goes on with {piece!r}"
            )
        return TextState().push(piece[size:]) if size == len(self.owed) else TextState(owed=self.owed[size:])

    def finish(self) -> str:
        """The whole text, with U+FFFD for a character that never ended."""
        return self.text + self.pending.decode("utf-8", "replace")


def _append(state: TextState, sequence: Sequence) -> TextState:
    spelling, before = sequence.vocabulary.spelling, sequence.parent
    if before is not None and before.taken_back:
        state = TextState(owed=before.owed)
    if sequence.token in spelling.special_ids:
        return state
    piece = spelling.token_bytes(sequence.token)
    return state.pay(piece) if state.owed else state.push(piece)


text_state = Fold(TextState(), _append, generated=True, key="ovdecode.text")
"""The `TextState` after the last token of a sequence; special tokens add nothing to it."""


def owed(sequence: Sequence) -> bytes:
    """The bytes that a reopened prompt lacks and that are not spelled yet; none for any other sequence."""
    return text_state(sequence).owed if sequence.generated_length else sequence.owed


def spells(sequence: Sequence) -> bool:
    """Whether what is generated after a reopened prompt spells the bytes that it lacks, as far as it goes; after any
    other prompt, always."""
    try:
        owed(sequence)
    except StrategyError:
        return False
    return True


def generated_text(sequence: Sequence, *, final: bool = False) -> str:
    """The text after the prompt, special tokens left out.

    Args:
        sequence: any sequence.
        final: nothing more will come, so show an incomplete last character as U+FFFD; else it is held back.

    Example:
        >>> from ovdecode.vocabulary import Vocabulary
        >>> generated_text(Vocabulary(26).prompt([0, 1]) + [7, 8])
        'hi'
    """
    state = text_state(sequence)
    return state.finish() if final else state.text
