"""Sampling from what the processors leave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ovdecode.candidates import Candidates
from ovdecode.forward import Logits
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.processors.truncation import MinP, Temperature, TopK, TopP, Typical
from ovdecode.strategy import Decoding, Strategy


@register("sampling")
@dataclass(frozen=True)
class Sampling(Strategy):
    """Each token drawn at random, with the probability that the processors leave it.

    Law: p(token | sequence) = softmax of the processed logits, over the tokens that are still candidates;
    without any processor, the model's own distribution.
    Source: ancestral sampling; truncated as in Fan et al. 2018 (top-k) and Holtzman et al. 2020 (top-p).

    The parameters stand for the processors of the same name. A parameter of None leaves its processor out.
    They come after `processors`, in the order of transformers: temperature, top-k, top-p, min-p, typical. For
    any other order, write the chain: `Sampling(processors=TopK(50) | TopP(0.9) | Temperature(0.7))`.

    Args:
        temperature: above 0; below 1 sharpens, above 1 flattens.
        top_k: how many of the most probable tokens stay; at least 1.
        top_p: mass of the smallest set of tokens that stays; 0 < top_p <= 1.
        min_p: least probability that stays, relative to the best token's; 0 < min_p <= 1.
        typical: mass of the locally typical set that stays; 0 < typical <= 1.
        processors: applied before these.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 1, 2], [2, 0, 1], [1, 2, 0]]))
        >>> model.generate([0], od.Sampling(top_k=1), max_new_tokens=3).tokens
        (2, 1, 0)
        >>> str(od.Sampling(temperature=0.8, top_p=0.95))
        'sampling:temperature=0.8,top_p=0.95'
    """

    commits: ClassVar[bool] = True

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None

    def __post_init__(self) -> None:
        self.chain  # noqa: B018  building the chain validates every parameter

    @cached_property
    def chain(self) -> LogitsProcessor:
        """Everything that is applied to the logits, in order."""
        given: list[LogitsProcessor] = []
        if self.temperature is not None:
            given.append(Temperature(self.temperature))
        if self.top_k is not None:
            given.append(TopK(self.top_k))
        if self.top_p is not None:
            given.append(TopP(self.top_p))
        if self.min_p is not None:
            given.append(MinP(self.min_p))
        if self.typical is not None:
            given.append(Typical(self.typical))
        return self.processors | Chain(tuple(given))

    def candidates(self, logits: Logits, sequence: Sequence) -> Candidates:
        """What the whole chain leaves of the logits after `sequence`."""
        return self.chain(Candidates(logits), sequence)

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend by a draw until the stop."""
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            sequence += self.candidates(logits, sequence).draw(rng)
        return sequence
