"""Small tables that several tests of searches share, and all that can be decoded from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ovdecode import Model, TableRunner
from ovdecode.numerics import log_softmax

Rows = Callable[[tuple[int, ...]], NDArray[np.float32]]


@cache
def noise(seed: int, vocab: int, spread: float = 1.5) -> Rows:
    """Logits that depend on all tokens before, irregularly but fixed."""

    @cache
    def row(tokens: tuple[int, ...]) -> NDArray[np.float32]:
        return (np.random.default_rng([seed, *tokens]).standard_normal(vocab) * spread).astype(np.float32)

    return row


def noise_model(seed: int, vocab: int, spread: float = 1.5, *, eos: bool = True) -> Model:
    """A model of such a table; its last token ends a text."""
    return Model(TableRunner(noise(seed, vocab, spread)), [vocab - 1] if eos else [])


def complete(rows: Rows, vocab: int, bound: int, eos: int | None = None) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every sequence after the prompt [0] that ends with `eos` or at the bound, with its log-probability."""
    todo: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    while todo:
        tokens, logprob = todo.pop()
        for token, each in enumerate(log_softmax(rows((0, *tokens)).astype(np.float64))):
            longer = ((*tokens, token), logprob + float(each))
            if token == eos or len(tokens) + 1 == bound:
                yield longer
            else:
                todo.append(longer)
