"""The tokenizer that transformers reads from a model folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ovdecode.errors import ModelError, PromptError
from ovdecode.models.chat import no_template, special_literals
from ovdecode.models.folder import read_json
from ovdecode.models.tokenizer import FolderTokenizer, Messages, check_text
from ovdecode.models.tokenizer_json import Entries, read_entries

_PLAIN = frozenset(
    (
        "bos_token",
        "chat_template",
        "clean_up_tokenization_spaces",
        "eos_token",
        "model_max_length",
        "pad_token",
        "tokenizer_class",
        "unk_token",
    )
)
"""What `tokenizer_config.json` may say without changing what `tokenizer.json` does."""


class HuggingFaceTokenizer(FolderTokenizer):
    """The tokenizer that `transformers.AutoTokenizer` reads from a model folder, loaded at first use.

    Where the folder asks for nothing beyond its `tokenizer.json`, the library `tokenizers` reads that, as transformers
    would do, and transformers, which takes a second to import, is only loaded for a chat template.
    Code that comes with a model is never run.

    Args:
        folder: The model folder, or its path.

    Raises:
        ModelError: At first use, if the folder holds no tokenizer that can be read.
    """

    def read_ahead(self) -> None:
        """Read now what needs no transformers: memory that takes for a moment, a model loaded next takes again."""
        _ = self._plain_entries

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return auto_tokenizer().from_pretrained(self.folder.path, trust_remote_code=False)
        except Exception as error:  # AutoTokenizer lets through whatever the files provoke
            raise self._unreadable(error) from error

    @cached_property
    def _plain(self) -> Any:
        """What the library beneath transformers makes of `tokenizer.json`, if that is all there is; or else None."""
        if self._plain_entries is None:
            return None
        from tokenizers import Tokenizer

        try:
            plain = Tokenizer.from_file(str(self.folder.path / "tokenizer.json"))
        except Exception as error:  # the library raises nothing narrower
            raise self._unreadable(error) from error
        plain.no_truncation()
        plain.no_padding()
        return plain

    @cached_property
    def _plain_entries(self) -> Entries | None:
        config = read_json(self.folder.path / "tokenizer_config.json")
        if config.get("tokenizer_class") != "PreTrainedTokenizerFast" or not set(config) <= _PLAIN:
            return None
        try:
            description = read_json(self.folder.path / "tokenizer.json")
            return read_entries(description, special_literals(self.folder.path).values())
        except KeyError:  # a token that transformers would add, or no tokenizer, which it is to say
            return None

    def _unreadable(self, error: Exception) -> ModelError:
        return ModelError(
            f"`{self.folder.path}` must hold a Hugging Face tokenizer (tokenizer.json), but it cannot be "
            f"read ({type(error).__name__}: {error}). Copy the original model's tokenizer files into the "
            "folder."
        )

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are markup, not text."""
        if self._plain_entries is not None:
            return self._plain_entries.special_ids
        return frozenset(self._tokenizer.all_special_ids) | frozenset(
            token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special
        )

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text; literals of special tokens in it become those tokens."""
        check_text(text)
        tokens: list[int]
        if self._plain is not None:
            tokens = self._plain.encode(text, add_special_tokens=add_special_tokens).ids
        else:
            tokens = self._tokenizer.encode(text, add_special_tokens=add_special_tokens, verbose=False)
        return tokens

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids, with U+FFFD for bytes that are no character."""
        for token in tokens:
            self.token_bytes(token)
        text: str
        if self._plain is not None:
            text = self._plain.decode(list(tokens), skip_special_tokens=skip_special_tokens)
        else:
            text = self._tokenizer.decode(
                list(tokens), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
            )
        return text

    def apply_chat_template(self, messages: Messages, add_generation_prompt: bool = True) -> list[int]:
        """The ids of a conversation in the model's own format."""
        from jinja2 import TemplateError

        if not self._tokenizer.chat_template:
            raise no_template(self.folder.path)
        try:
            text: str = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise PromptError(f"`messages` must fit the model's chat template, but: {error}") from error
        return self.encode(text)

    @cached_property
    def spellings(self) -> list[bytes]:
        """The bytes of every id, in order, read off `tokenizer.json`."""
        if self._plain_entries is not None:
            return self._plain_entries.spellings
        try:
            backend = self._tokenizer.backend_tokenizer
        except AttributeError as error:
            raise ModelError(
                f"`{self.folder.path}` must hold a fast tokenizer (tokenizer.json), but it holds a slow one. "
                "Save it again with: AutoTokenizer.from_pretrained(folder, "
                "use_fast=True).save_pretrained(folder)"
            ) from error
        return read_entries(json.loads(backend.to_str())).spellings


def auto_tokenizer() -> Any:
    """`transformers.AutoTokenizer`, imported without the notice that there is no PyTorch."""
    before = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    try:
        from transformers import AutoTokenizer
    finally:
        if before is None:
            del os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"]
        else:
            os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = before
    return AutoTokenizer
