"""The tokenizer that transformers reads from a model folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ovdecode.errors import ModelError, PromptError
from ovdecode.models.chat import no_template
from ovdecode.models.spelling import byte_level_bytes, sentencepiece_bytes
from ovdecode.models.tokenizer import FolderTokenizer, Messages, check_text


class HuggingFaceTokenizer(FolderTokenizer):
    """The tokenizer that `transformers.AutoTokenizer` reads from a model folder, loaded at first use.

    Code that comes with a model is never run.

    Args:
        folder: The model folder, or its path.

    Raises:
        ModelError: At first use, if the folder holds no tokenizer that can be read.
    """

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return auto_tokenizer().from_pretrained(self.folder.path, trust_remote_code=False)
        except Exception as error:  # AutoTokenizer lets through whatever the files provoke
            raise ModelError(
                f"`{self.folder.path}` must hold a Hugging Face tokenizer (tokenizer.json), but it cannot be "
                f"read ({type(error).__name__}: {error}). Copy the original model's tokenizer files into the "
                "folder."
            ) from error

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are markup, not text."""
        return frozenset(self._tokenizer.all_special_ids) | frozenset(
            token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special
        )

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text; literals of special tokens in it become those tokens."""
        check_text(text)
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens, verbose=False)
        return tokens

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids, with U+FFFD for bytes that are no character."""
        for token in tokens:
            self.token_bytes(token)
        text: str = self._tokenizer.decode(
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
        try:
            backend = self._tokenizer.backend_tokenizer
        except AttributeError as error:
            raise ModelError(
                f"`{self.folder.path}` must hold a fast tokenizer (tokenizer.json), but it holds a slow one. "
                "Save it again with: AutoTokenizer.from_pretrained(folder, "
                "use_fast=True).save_pretrained(folder)"
            ) from error
        description = json.loads(backend.to_str())
        spell = sentencepiece_bytes if "ByteLevel" not in json.dumps(description["decoder"]) else byte_level_bytes
        spellings = [b""] * backend.get_vocab_size(with_added_tokens=True)
        for entry, token in backend.get_vocab(with_added_tokens=False).items():
            spellings[token] = spell(entry)
        for added in description["added_tokens"]:
            spellings[added["id"]] = added["content"].encode("utf-8")
        return spellings


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
