"""The bytes of vocabulary entries."""

from __future__ import annotations

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from ovdecode.models.spelling import byte_level_alphabet, byte_level_bytes, sentencepiece_bytes


def test_the_alphabet_is_that_of_tokenizers() -> None:
    alphabet = byte_level_alphabet()
    assert set(alphabet) == set(ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [("Ġthe", b" the"), ("Ċ", b"\n"), ("Ã©", "é".encode()), ("日本", "日本".encode()), ("", b"")],
)
def test_byte_level_entries(entry: str, expected: bytes) -> None:
    assert byte_level_bytes(entry) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("▁the", b" the"),
        ("<0x0A>", b"\n"),
        ("<0xE9>", b"\xe9"),
        ("<0xE9>x", b"<0xE9>x"),
        ("日", "日".encode()),
    ],
)
def test_sentencepiece_entries(entry: str, expected: bytes) -> None:
    assert sentencepiece_bytes(entry) == expected
