"""Traces: what a finished text's model and chain said at every token, found again by asking the model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.engine import Engine, Task
from ovdecode.forward import Forward
from ovdecode.generation import Candidate, Generation
from ovdecode.model import Model
from ovdecode.numerics import top_indices
from ovdecode.processor import LogitsProcessor, trace
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Outcome, Strategy, gather

CHUNK = 32
"""How many rows of logits are asked for at once: they are what a trace takes memory for."""
MAX_LIVE = 8
"""How many texts are traced at once."""


@dataclass(frozen=True)
class Alternative:
    """A token that could have come at a position.

    Attributes:
        token: its id.
        probability: the model's own.
        left: its probability after the whole chain; 0 if a stage removed it.
        removed_by: which stage of the chain removed it, counted from 0; None if it was left.
    """

    token: int
    probability: float
    left: float
    removed_by: int | None


@dataclass(frozen=True)
class Position:
    """What was possible at one token of a text.

    Attributes:
        alternatives: the most probable tokens, and the one that was chosen, best first.
        removed: for each stage of the chain, how many tokens it removed and the probability that they had.
    """

    alternatives: tuple[Alternative, ...]
    removed: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trace:
    """A text seen token by token.

    Attributes:
        stages: spec strings of the strategy's processors, in order.
        positions: one for each token of the text.
    """

    stages: tuple[str, ...]
    positions: tuple[Position, ...]


@dataclass(frozen=True)
class Explored:
    """A decoding done again, with everything that it asked about.

    Attributes:
        tokens: what it decoded.
        asked: the tokens of the sequences that it asked its model about and then did not go on from, and of those it
            returned, without the prompt.
    """

    tokens: tuple[int, ...]
    asked: tuple[tuple[int, ...], ...]


def trace_texts(texts: Iterable[tuple[Task, Candidate]], alternatives: int = 8) -> Iterator[Trace | Exception]:
    """Trace finished texts, all of them in one batch.

    Args:
        texts: for each, the task and what came of it; only `tokens` and `taken_back` of that are looked at.
        alternatives: how many of the most probable tokens are kept at each position.

    Yields:
        A trace for each text, in order, or what went wrong with it.
    """
    tasks = (_asking(task, _Tracing(task.method.chain, text.tokens, text.taken_back, alternatives)) for task, text in texts)
    return _found(tasks)


def explore(tasks: Iterable[Task]) -> Iterator[Explored | Exception]:
    """Decode again, all tasks in one batch, and tell what each strategy asked about.

    Yields:
        What each explored, in order, or what went wrong with it.
    """
