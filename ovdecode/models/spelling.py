"""The bytes of a vocabulary entry, in the two ways that vocabularies write bytes as characters."""

from __future__ import annotations

import re
from functools import cache

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def byte_level_alphabet() -> dict[str, int]:
    """The byte that each of the 256 characters of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters from
    U+0100 on. Law: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2's
    `bytes_to_unicode`).

    >>> byte_level_alphabet()["Ġ"], byte_level_alphabet()["A"]
    (32, 65)
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    alphabet = {chr(byte): byte for byte in printable}
    for offset, byte in enumerate(byte for byte in range(256) if byte not in printable):
        alphabet[chr(0x100 + offset)] = byte
    return alphabet


class _Table(dict[int, int]):
    """Characters to bytes, for `str.translate`; any other to a character that is no byte."""

    def __missing__(self, character: int) -> int:
        return 0x100


@cache
def _byte_level_table() -> _Table:
    return _Table((ord(character), byte) for character, byte in byte_level_alphabet().items())


def byte_level_bytes(entry: str) -> bytes:
    """The bytes of a byte-level entry; one with a character outside the alphabet is its own literal.

    >>> byte_level_bytes("Ġcaf") + byte_level_bytes("Ã©")
    b' caf\\xc3\\xa9'
    """
    try:
        return entry.translate(_byte_level_table()).encode("latin-1")
    except UnicodeEncodeError:
        return entry.encode("utf-8")


def sentencepiece_bytes(entry: str) -> bytes:
    """The bytes of a SentencePiece entry: `<0xE9>` is one byte, and U+2581 is a space.

    >>> sentencepiece_bytes("<0xE9>"), sentencepiece_bytes("▁the")
    (b'\\xe9', b' the')
    """
    if byte := _BYTE_FALLBACK.fullmatch(entry):
        return bytes([int(byte[1], 16)])
    return entry.replace("▁", " ").encode("utf-8")
