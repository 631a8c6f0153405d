"""What proposers share that draw one token after another."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ovdecode.candidates import Candidates
from ovdecode.forward import Logits
from ovdecode.processor import LogitsProcessor
from ovdecode.proposer import Law, Proposing, chain
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Request

Ask = Callable[[Sequence], Generator["Request | list[Request]", Any, Logits]]
"""Asks for the logits to draft from."""


def draw_chain(
    ask: Ask,
    processors: LogitsProcessor,
    num_tokens: int,
    threshold: float | None,
    sequence: Sequence,
    stop: Stop,
    law: Law,
    rng: Random,
) -> Proposing:
    """Decode up to `num_tokens` tokens from logits that are not the verifying strategy's own, by its law.

    A draft ends after a token that those logits gave less than `threshold`. Leaving that very token out would make
    those that stay more probable than what they were drawn from says.
    """
    drawn: list[tuple[int, Candidates | None]] = []
    while len(drawn) < num_tokens and not stop(sequence):
        logits = yield from ask(sequence)
        processed = processors(Candidates(logits), sequence)
        candidates = law(processed.spread(len(logits)), sequence)
        drawn.append((candidates.draw(rng), candidates))
        sequence += drawn[-1][0]
        if threshold is not None and processed.probabilities_of(sequence.tokens[-1:])[0] < threshold:
            break
    return chain(drawn)
