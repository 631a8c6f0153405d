"""Text to token ids and back: the contract of every tokenizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ovdecode.errors import PromptError, TokenError
from ovdecode.models.folder import ModelFolder, read_folder

Messages = Sequence[Mapping[str, str]]
"""A conversation: each message has a `role` and a `content`."""


class Tokenizer(Protocol):
    """What turns text into token ids and back, however long the text is."""

    @property
    def vocab_size(self) -> int:
        """The number of ids that have a spelling; a model may have more logits than that."""

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are markup, not text."""

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text; literals of special tokens in it become those tokens.

        Args:
            text: Any text that UTF-8 can write.
            add_special_tokens: Also add what the model expects around a whole text, such as a BOS token.
        """

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids, with U+FFFD for bytes that are no character."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token adds to the text (those of its literal for a special token)."""

    def apply_chat_template(self, messages: Messages, add_generation_prompt: bool = True) -> list[int]:
        """The ids of a conversation in the model's own format."""


class FolderTokenizer(Tokenizer):
    """A tokenizer that lives in a model folder: what both implementations share.

    Args:
        folder: The model folder, or its path.
    """

    def __init__(self, folder: ModelFolder | Path) -> None:
        self.folder = folder if isinstance(folder, ModelFolder) else read_folder(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.folder.path})"

    @property
    def vocab_size(self) -> int:
        """The number of ids that have a spelling; a model may have more logits than that."""
        return len(self.spellings)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return self.folder.eos_token_ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token adds to the text (those of its literal for a special token).

        An id that the model has logits for, but the tokenizer does not use, adds none.

        Raises:
            TokenError: The id is neither.
        """
        if 0 <= token < self.vocab_size:
            return self.spellings[token]
        count = max(self.vocab_size, self.folder.vocab_size or 0)
        if 0 <= token < count:
            return b""
        raise TokenError(f"`token` must be an id from 0 to {count - 1}, but it is {token}. Is it another model's?")

    @property
    @abstractmethod
    def spellings(self) -> Sequence[bytes]:
        """The bytes of every id, in order."""


def check_text(text: str) -> None:
    """Raise `PromptError` for a text that is none."""
    if not isinstance(text, str):
        raise PromptError(f"`text` must be a string, but it is a {type(text).__name__}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"`text` must be writable as UTF-8, but the character at {error.start} is half of a surrogate "
            f"pair ({text[error.start]!r}). Decode the text's source with errors='replace'."
        ) from error
