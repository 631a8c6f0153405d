"""What a `tokenizer.json` says about its vocabulary, read without the library that runs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ovdecode.models.spelling import byte_level_bytes, sentencepiece_bytes


class Entries(NamedTuple):
    """The vocabulary of a tokenizer.

    Attributes:
        spellings: the bytes of every id, in order.
        special_ids: the tokens that are markup, not text.
    """

    spellings: list[bytes]
    special_ids: frozenset[int]


def read_entries(description: dict[str, Any], special: Iterable[str] = ()) -> Entries:
    """Read the vocabulary off the content of a `tokenizer.json`.

    Args:
        description: the content.
        special: literals of tokens that are markup, beside those that are marked so.

    Raises:
        KeyError: a literal is not in the vocabulary, or the content is something else.

    Example:
        >>> model = {"vocab": {"a": 0, "Ġa": 1}}
        >>> added = [{"id": 2, "content": "<s>", "special": True}]
        >>> read_entries({"model": model, "decoder": {"type": "ByteLevel"}, "added_tokens": added})
        Entries(spellings=[b'a', b' a', b'<s>'], special_ids=frozenset({2}))
    """
    try:
        return _entries(description, special)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise KeyError(f"the content must be that of a `tokenizer.json`, but: {error}") from error


def _entries(description: dict[str, Any], special: Iterable[str]) -> Entries:
    vocabulary = description["model"]["vocab"]
    if isinstance(vocabulary, list):  # of a unigram model: entries with their scores
        vocabulary = {entry: token for token, (entry, _) in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in description["added_tokens"]}
    spell = byte_level_bytes if "ByteLevel" in str(description["decoder"]) else sentencepiece_bytes
    spellings = [b""] * (max([*vocabulary.values(), *added.values()]) + 1)
    for entry, token in vocabulary.items():
        spellings[token] = spell(entry)
    for entry, token in added.items():
        spellings[token] = entry.encode("utf-8")
    ids = {**vocabulary, **added}
    marked = {token["id"] for token in description["added_tokens"] if token["special"]}
    return Entries(spellings, frozenset(marked | {ids[literal] for literal in special}))
