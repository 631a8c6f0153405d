"""Ensembles: several models as one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ovdecode.forward import Forward, Logits
from ovdecode.guidance import Guidance
from ovdecode.model import Model
from ovdecode.numerics import log_softmax
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategy import Strategy


@register("ensemble")
@dataclass(frozen=True)
class Ensemble(Guidance):
    """Several models as one: the task's model and others of the same vocabulary.

    Law: another strategy decodes from the weighted mean of the models' log-probabilities (`product`), or from
    the log of the weighted mean of their probabilities (`mixture`). A product forbids what one of them holds
    to be impossible; a mixture forbids only what all do.
    Source: Hinton 2002, "Training Products of Experts by Minimizing Contrastive Divergence" (product); Jacobs
    et al. 1991, "Adaptive Mixtures of Local Experts" (mixture, with fixed weights here).

    Args:
        models: the others, or sources to load them from; at least one.
        weights: of the task's model and of each of the others, above 0; only their ratios count. None for
            equal weights.
        kind: `product` or `mixture`.
        strategy: what decodes.
        processors: applied to the logits of the task's model; what they exclude, no other brings back.

    Example:
        >>> import numpy as np
        >>> import ovdecode as od
        >>> one, other = (od.Model(od.TableRunner({(): np.log(row)})) for row in ([0.6, 0.39, 0.01], [0.01, 0.39, 0.6]))
        >>> one.generate([0], od.Ensemble([other]), max_new_tokens=1).tokens
        (1,)
    """

    models: Iterable[Model | str]
    weights: Iterable[float] | None = None
    kind: Literal["product", "mixture"] = "product"
    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def __post_init__(self) -> None:
        for name in ("models", "weights"):
            value = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        named = isinstance(self.models, tuple) and all(isinstance(each, Model | str) for each in self.models)
        require(self, "models", named and self.models != (), "models, or the sources of them, at least one")
        weighed = isinstance(self.weights, tuple) and all(
            isinstance(each, int | float) and 0 < each < math.inf for each in self.weights
        )
        fits = self.weights is None or (weighed and len(tuple(self.weights)) == 1 + len(tuple(self.models)))
        require(self, "weights", fits, "one finite number above 0 for the task's model and each of `models`, or none")
        require(self, "kind", self.kind in ("product", "mixture"), "product or mixture")

    def companions(self, request: Forward) -> list[Forward]:
        """All the others, about the same text."""
        return [Forward(request.sequence, request.last, each) for each in self.models]

    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """The mean."""
        own = log_softmax(logits, sequence.logsumexp_of(logits))
        logprobs = np.array([own, *map(log_softmax, others)])  # (models, vocab)
        given = np.ones(len(logprobs)) if self.weights is None else np.array(self.weights)
        least = np.finfo(logprobs.dtype).tiny  # not 0, of which not even -inf would be left
        weights = np.maximum(given / given.sum(), least).astype(logprobs.dtype)
        if self.kind == "product":
            product: Logits = weights @ logprobs
            return product
        mixture: Logits = np.logaddexp.reduce(np.log(weights)[:, None] + logprobs, axis=0)
        return mixture
