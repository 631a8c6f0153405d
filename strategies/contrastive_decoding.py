"""Contrastive decoding of two models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from ovdecode.candidates import Candidates
from ovdecode.forward import Forward, Logits
from ovdecode.model import Model
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Strategy


@register("contrastive_decoding")
@dataclass(frozen=True)
class ContrastiveDecoding(Strategy):
    """The token that an expert prefers most strongly over an amateur, among those that the expert finds
    plausible.

    Law: over the tokens with p_expert >= alpha · max p_expert, the score is
    log p_expert − log p_amateur; with `beta`, (1 + beta) · log p_expert − beta · log p_amateur. The best
    score wins, or with `temperature`, a token is drawn from softmax(score / temperature). The expert is the
    task's model.
    Source: Li et al. 2023, "Contrastive Decoding: Open-ended Text Generation as Optimization", who search the
    summed scores with beams, where this takes the best token at each step; with `beta`, O'Brien and Lewis
    2023, "Contrastive Decoding Improves Reasoning in Large Language Models", who use 0.5.

    Args:
        amateur: a weaker model with the expert's vocabulary, or a source to load it from.
        alpha: plausibility relative to the expert's best token; 0 < alpha <= 1, where 1 is the expert's
            greedy choice.
        beta: weight of the amateur in the form of O'Brien and Lewis, at least 0 (0 is the expert alone); None
            for the form of Li et al.
        amateur_temperature: divides the amateur's logits; above 0. Li et al. use 0.5 for some models.
        temperature: above 0; None takes the best score.
        processors: applied to the expert's logits, before its plausible tokens are found.

    Example:
        >>> import ovdecode as od
        >>> expert = od.Model(od.TableRunner({(): [2.0, 1.8, -3.0]}))
        >>> amateur = od.Model(od.TableRunner({(): [2.0, 0.0, -9.0]}))
        >>> expert.generate([0], od.ContrastiveDecoding(amateur), max_new_tokens=2).tokens
        (1, 1)
    """

    commits: ClassVar[bool] = True

    amateur: Model | str
    alpha: float = 0.1
    beta: float | None = None
    amateur_temperature: float = 1.0
    temperature: float | None = None

    def __post_init__(self) -> None:
        named = isinstance(self.amateur, Model | str)
        require(self, "amateur", named, "a model, or the source of one")
        require(self, "alpha", _real(self.alpha) and 0 < self.alpha <= 1, "above 0 and at most 1")
        beta = self.beta is None or (_real(self.beta) and self.beta >= 0)
        require(self, "beta", beta, "at least 0, or none")
        positive = _real(self.amateur_temperature) and self.amateur_temperature > 0
        require(self, "amateur_temperature", positive, "a finite number above 0")
        positive = self.temperature is None or (_real(self.temperature) and self.temperature > 0)
        require(self, "temperature", positive, "a finite number above 0, or none for the best score")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask both models at once, extend by the score."""
        sequence = prompt
        while not stop(sequence):
            expert, amateur = yield [sequence, Forward(sequence, model=self.amateur)]
            scores = self._scores(self.candidates(expert, sequence), amateur)
            if self.temperature is None:
                sequence += scores.argmax()
            else:
                sequence += scores.divided(float(self.temperature)).draw(rng)
        return sequence

    def _scores(self, expert: Candidates, amateur: Logits) -> Candidates:
        """The plausible candidates with their scores, up to a constant: logits differ from log-probabilities
        by one."""
        plausible = expert.keep(expert.checked >= expert.logits.max() + math.log(self.alpha))
        against = Candidates(amateur[plausible.ids]).divided(float(self.amateur_temperature)).logits
        if self.beta is None:
            return plausible.with_logits(plausible.logits - against)
        return plausible.with_logits((1 + float(self.beta)) * plausible.logits - float(self.beta) * against)


def _real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
