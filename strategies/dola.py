"""DoLa: decoding by contrasting layers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.forward import Forward, Logits
from ovdecode.guidance import Guidance
from ovdecode.numerics import weighted_sum
from ovdecode.plugin import is_whole, require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.contrast import difference, only, plausible
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategy import Strategy


@register("dola")
@dataclass(frozen=True)
class DoLa(Guidance):
    """What the last layer prefers more strongly than an early layer does, among the tokens that it finds
    plausible.

    Law: another strategy decodes from the scores log p − log q of the tokens with p >= relative_top · max p,
    where q is what the LM head reads out at that one of the early layers which is the furthest from p by
    Jensen-Shannon divergence, at each position anew (the first among equals). All other tokens are
    impossible.
    Source: Chuang et al. 2023, "DoLa: Decoding by Contrasting Layers Improves Factuality in Large Language
    Models" (arXiv:2309.03883), who add a repetition penalty of 1.2.

    Two things differ in transformers and in the authors' code: early layers are read out without the final
    norm, and the two Kullback-Leibler divergences that are averaged are taken from the mean to p and q, not
    to the mean.

    Args:
        layers: the early layers. `low`: every second one of the first half (of the first 20, in a model of
            more than 40 layers); `high`: every second one of the second half (of the last 20); or their
            numbers, where 0 is the embedding.
        first_layer: where `low` begins; at least 0. The paper's models begin at 0; in a model whose embedding
            is its LM head, layer 0 says the token before again, and transformers begins at 2.
        relative_top: plausibility relative to the best token; 0 < relative_top <= 1.
        strategy: what decodes from the scores.
        processors: applied to the last layer's logits, before its plausible tokens are found.

    Example:
        >>> import ovdecode as od
        >>> layers = {0: {(): [2.0, 0.0, 0.0]}, 1: {(): [2.0, 1.9, 0.0]}}
        >>> model = od.Model(od.TableRunner({(): [2.0, 1.9, 0.0]}, layers=layers))
        >>> model.generate([0], od.DoLa([0, 1]), max_new_tokens=2).tokens
        (1, 1)
    """

    aliases = ("dola_layers",)

    layers: Literal["low", "high"] | Iterable[int] = "low"
    first_layer: int = 2
    relative_top: float = 0.1
    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.layers, Iterable) and not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))
        numbers = isinstance(self.layers, tuple) and all(is_whole(each) and each >= 0 for each in self.layers)
        known = self.layers in ("low", "high") or (numbers and self.layers)
        require(self, "layers", bool(known), "low, high, or the numbers of at least one layer")
        require(self, "first_layer", self.first_layer >= 0, "at least 0")
        require(self, "relative_top", 0 < self.relative_top <= 1, "above 0 and at most 1")

    def companions(self, request: Forward) -> list[Forward]:
        """The same model about the same text, at its early layers."""
        return [Forward(request.sequence, request.last, choose_layers=self.early_layers)]

    def early_layers(self, num_layers: int) -> tuple[int, ...]:
        """The numbers of the early layers of a model that has so many."""
        if not isinstance(self.layers, str):
            return tuple(self.layers)
        if self.layers == "high":
            return tuple(range(max(num_layers // 2, num_layers - 20), num_layers, 2))
        low = range(self.first_layer, min(num_layers // 2, 20), 2)
        return tuple(low) or (min(self.first_layer, num_layers - 1),)

    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """The last layer against the early one that differs the most."""
        last = Candidates.after(sequence, logits)
        early = max(map(Candidates, others), key=lambda each: divergence(last, each))
        return only(plausible(logits, self.relative_top), difference(last.logprobs, early.logprobs))


def divergence(one: Candidates, other: Candidates) -> float:
    """The Jensen-Shannon divergence of two distributions over the whole vocabulary, in nats.

    It is the entropy of their mean less the mean of their entropies.
    """
    both = one.probabilities + other.probabilities
    with np.errstate(divide="ignore"):  # of what is impossible for both, which counts nothing
        entropy = math.log(2) - weighted_sum(both, np.log(both)) / 2
    return entropy - (one.entropy + other.entropy) / 2
