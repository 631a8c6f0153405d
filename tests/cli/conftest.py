"""A model whose text is known, in place of a real one, and a command line to run on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ovdecode as od
from ovdecode.cli import app

Run = Callable[..., Result]


class Words:
    """A spelling in which tokens are these bytes."""

    special_ids: frozenset[int] = frozenset()

    def __init__(self, *words: bytes) -> None:
        self.words = words

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [0] if text else []

    def token_bytes(self, token: int) -> bytes:
        return self.words[token]


@pytest.fixture
def words() -> type[Words]:
    """The class of a spelling that is made of given bytes."""
    return Words


@pytest.fixture
def use_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[od.Model], list[dict[str, Any]]]:
    """Make every command load this model; the list that it returns fills with the options of each load."""

    def use(model: od.Model) -> list[dict[str, Any]]:
        loads: list[dict[str, Any]] = []

        def load(source: str, **options: Any) -> od.Model:
            loads.append({"source": source, **options})
            return model

        monkeypatch.setattr("ovdecode.loading.load", load)
        return loads

    return use


@pytest.fixture
def run(use_model: Callable[[od.Model], Any]) -> Run:
    """Run a command on the table in which b follows a, c follows b, and a follows c."""
    use_model(od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]])))
    return lambda *arguments, **options: CliRunner().invoke(app, [*map(str, arguments)], **options)
