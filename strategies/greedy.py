"""Greedy decoding."""

from __future__ import annotations

from dataclasses import dataclass

from ovdecode.candidates import Candidates
from ovdecode.forward import Logits
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Stepwise


@register("greedy")
@dataclass(frozen=True)
class Greedy(Stepwise):
    """The most probable token at every step; the lowest id among equals.

    Law: the result is a function of the prompt; no randomness is used.
    Source: folklore; the argmax decoder that beam search with one beam is equal to.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 1, 0], [0, 0, 1], [1, 0, 0]]))
        >>> model.generate([0], od.Greedy(), max_new_tokens=4).tokens
        (1, 2, 0, 1)
    """

    aliases = ("argmax",)

    def law(self, logits: Logits, sequence: Sequence) -> Candidates:
        """The best candidate alone."""
        return self.candidates(logits, sequence).top(1)

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend by the argmax until the stop."""
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            sequence += self.candidates(logits, sequence).argmax()
        return sequence
