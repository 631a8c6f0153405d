"""The generated text of a sequence, decoded once for each token and never shown with half a character."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from ovdecode.sequence import Fold, Sequence

_RECENT = 256


class GeneratedText(NamedTuple):
    """Text that grows token by token, as a state of the token tree.

    Two strings instead of one keep memory small: the first is the same object in long runs of nodes.

    Attributes:
        settled: the text but for its end.
        recent: its end.
        pending: the bytes of a character that is not complete yet.
    """

    settled: str = ""
    recent: str = ""
    pending: bytes = b""

    @property
    def text(self) -> str:
        """The complete characters so far."""
        return self.settled + self.recent


def _append(state: GeneratedText, sequence: Sequence) -> GeneratedText:
    spelling = sequence.vocabulary.spelling
    if sequence.token in spelling.special_ids:
        return state
    data = state.pending + spelling.token_bytes(sequence.token)
    characters, consumed = codecs.utf_8_decode(data, "replace", False)
    recent = state.recent + characters
    if len(recent) > _RECENT:
        return GeneratedText(state.settled + recent, "", data[consumed:])
    return GeneratedText(state.settled, recent, data[consumed:])


text_state = Fold(GeneratedText(), _append, generated=True, key="ovdecode.text")
"""The `GeneratedText` after the last token of a sequence; special tokens add nothing to it."""


def generated_text(sequence: Sequence, *, final: bool = False) -> str:
    """The text of the tokens after the prompt, special tokens left out.

    Args:
        sequence: any sequence.
        final: nothing more will come, so show an incomplete last character as U+FFFD; else it is held back.

    Example:
        >>> from ovdecode.vocabulary import Vocabulary
        >>> generated_text(Vocabulary(26).prompt([0, 1]) + [7, 8])
        'hi'
    """
    state = text_state(sequence)
    return state.text + state.pending.decode("utf-8", "replace") if final else state.text
