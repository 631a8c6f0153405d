"""How probable given continuations are: what a harness asks a model that does not generate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from ovdecode.engine import Task
from ovdecode.forward import Forward
from ovdecode.model import Model, run
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy

ROWS = 32
"""Positions asked about at once: each is a row of logits as long as the vocabulary."""
MAX_LIVE = 16
"""How many continuations are scored at once; their rows are held together."""


def score(model: Model, pairs: Iterable[tuple[Items[int], Items[int]]]) -> Iterator[tuple[int, float, bool]]:
    """The log-probability (natural) of continuations under a model, and whether greedy decoding would have made them.

    All are scored in one batch. Contexts that begin alike are computed once, and one that several continuations follow
    too.

    Args:
        model: who is asked.
        pairs: token ids of a context, at least one, and of its continuation; together they have at most one token
            more than the model's context.

    Yields:
        The index of a pair, the sum over its continuation, and whether each token of it was the most probable one; as
        soon as it is known.

    Raises:
        Exception: what went wrong with the first pair that failed.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0.0, 9.0], [9.0, 0.0]]))
        >>> [(index, greedy) for index, _, greedy in sorted(score(model, [([0], [1, 0]), ([0, 1], [1])]))]
        [(0, True), (1, False)]
    """
    tasks = (
        Task(model, list(context[:1]), Score(tuple(context[1:]), tuple(continuation)), 1, ignore_eos=True)
        for context, continuation in pairs
    )
    for generation in run(tasks, max_live=MAX_LIVE):
        if generation.error is not None:
            raise generation.error
        yield generation.index, generation.logprob, bool(generation.info["greedy"])


@dataclass(frozen=True)
class Score(Strategy):
    """Chooses nothing: it goes through given tokens, so that their probability is known at the end.

    Args:
        context: what follows the prompt's tokens and counts as prompt. It is not in the prompt itself because a task
            leaves room there for a token, and here none is added.
        continuation: what is scored.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask about the position before each token of the continuation."""
        sequence, greedy = prompt.extend_prompt(self.context), True
        for start in range(0, len(self.continuation), ROWS):
            piece = self.continuation[start : start + ROWS]
            asked = sequence + piece[:-1]
            rows = yield Forward(asked, last=len(piece))  # (piece, vocab)
            greedy = greedy and np.array_equal(rows.argmax(axis=1), piece)
            sequence = asked + piece[-1]
        return Outcome((Hypothesis(sequence, sequence.logprob),), {"greedy": float(greedy)})
