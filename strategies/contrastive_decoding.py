"""Contrastive decoding of two models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ovdecode.candidates import Candidates
from ovdecode.forward import Forward, Logits
from ovdecode.guidance import Guidance
from ovdecode.model import Model
from ovdecode.numerics import log_softmax
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.contrast import difference, only, plausible, steered
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategy import Strategy


@register("contrastive_decoding")
@dataclass(frozen=True)
class ContrastiveDecoding(Guidance):
    """What an expert prefers more strongly than an amateur does, among the tokens that the expert finds
    plausible.

    Law: another strategy decodes from the scores log p_expert − log p_amateur of the tokens with p_expert >=
    alpha · max p_expert; with `beta`, from (1 + beta) · log p_expert − beta · log p_amateur. All other tokens
    are impossible. The expert is the task's model.
    Source: Li et al. 2023, "Contrastive Decoding: Open-ended Text Generation as Optimization"
    (arXiv:2210.15097), who search with 5 beams; with `beta`, O'Brien and Lewis 2023, "Contrastive Decoding
    Improves Reasoning in Large Language Models" (arXiv:2309.09117), who use 0.5.

    Args:
        amateur: a weaker model with the expert's vocabulary, or a source to load it from.
        alpha: plausibility relative to the expert's best token; 0 < alpha <= 1, where 1 is the expert's
            greedy choice.
        beta: weight of the amateur in the form of O'Brien and Lewis, at least 0 (0 is the expert alone); None
            for the form of Li et al.
        amateur_temperature: divides the amateur's logits; above 0. Li et al. use 0.5 for some models.
        strategy: what decodes from the scores. A beam search normalises them, which Li et al. do not.
        processors: applied to the expert's logits, before its plausible tokens are found.

    Example:
        >>> import ovdecode as od
        >>> expert = od.Model(od.TableRunner({(): [2.0, 1.8, -3.0]}))
        >>> amateur = od.Model(od.TableRunner({(): [2.0, 0.0, -9.0]}))
        >>> expert.generate([0], od.ContrastiveDecoding(amateur), max_new_tokens=2).tokens
        (1, 1)
    """

    amateur: Model | str
    alpha: float = 0.1
    beta: float | None = None
    amateur_temperature: float = 1.0
    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def __post_init__(self) -> None:
        require(self, "amateur", isinstance(self.amateur, Model | str), "a model, or the source of one")
        require(self, "alpha", 0 < self.alpha <= 1, "above 0 and at most 1")
        beta = self.beta is None or 0 <= self.beta < math.inf
        require(self, "beta", beta, "a finite number of at least 0, or none")
        positive = 0 < self.amateur_temperature < math.inf
        require(self, "amateur_temperature", positive, "a finite number above 0")

    def companions(self, request: Forward) -> list[Forward]:
        """The amateur, about the same text."""
        return [Forward(request.sequence, request.last, self.amateur)]

    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """The scores of the plausible tokens."""
        expert = log_softmax(logits, sequence.logsumexp_of(logits))
        amateur = Candidates(others[0]).divided(self.amateur_temperature).logprobs
        scores = difference(expert, amateur) if self.beta is None else steered(expert, self.beta, expert, amateur)
        return only(plausible(logits, self.alpha), scores)
