"""What strategies that combine many decodings share: running them in one batch, and reading what came out."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from itertools import chain
from math import isnan
from typing import Any

from ovdecode.forward import Forward
from ovdecode.processor import LogitsProcessor
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Outcome, Request, Strategy, gather, outcome
from ovdecode.text import generated_text


def decodings(
    strategy: Strategy, n: int, prompt: Sequence, stop: Stop, rng: Random, *, processors: LogitsProcessor
) -> list[Decoding]:
    """n decodings to `gather`; the i-th has the i-th independent stream of random numbers, whatever n is.

    Args:
        strategy: what makes each of them.
        n: how many.
        prompt, stop, rng: as in `Strategy.decode`.
        processors: applied before those of `strategy`.
    """
    each = replace(strategy, processors=processors | strategy.processors)
    return [each.decode(prompt, stop, rng.split(index)) for index in range(n)]


def finish(
    running: Iterable[Decoding], *, alternatives: bool = False
) -> Generator[list[Request], Any, list[list[Sequence]]]:
    """Run decodings in one batch: the best sequence of each, or with `alternatives`, all that each returned.

    The model's log-probability of every one is known at the end: a token that was not chosen from logits (a forced
    phrase) has none until the model is asked.
    """
    results: list[Sequence | Outcome] = yield from gather(running)
    found = [[each.sequence for each in outcome(result).hypotheses] for result in results]
    if not alternatives:
        found = [sequences[:1] for sequences in found]
    unknown: list[Request] = [
        Forward(one, last=one.generated_length + 1) for one in chain(*found) if isnan(one.logprob)
    ]
    if unknown:
        yield unknown
    return found


def shown_text(sequence: Sequence, stop: Stop) -> str:
    """The generated text as a user is shown it: a stop string is cut off if its criterion says so."""
    reason = stop(sequence)
    text = generated_text(sequence, final=True)
    return text if reason is None else text[: reason.text_end]
