"""Classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ovdecode.fold import Fold
from ovdecode.forward import Forward, Logits
from ovdecode.guidance import Guidance
from ovdecode.numerics import log_softmax
from ovdecode.plugin import is_whole, require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.contrast import steered
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategy import Strategy


@register("cfg")
@dataclass(frozen=True)
class ClassifierFreeGuidance(Guidance):
    """The model's preferences, moved further in the direction in which the prompt moves them.

    Law: another strategy decodes from the logits u + guidance_scale · (c − u), where c are the
    log-probabilities after the prompt and the generated tokens, and u those after the negative prompt and the
    same generated tokens. A scale of 1 changes nothing, and 0 ignores the prompt. What the model holds to be
    impossible stays so.
    Source: Sanchez et al. 2023, "Stay on topic with Classifier-Free Guidance"
    (arXiv:2306.17806); without a negative prompt as in transformers 5
    (`UnbatchedClassifierFreeGuidanceLogitsProcessor`).

    Args:
        guidance_scale: finite and at least 0; 1.5 is usual.
        negative_prompt: what to move away from, as text or token ids; None for the last token of the prompt
            alone.
        strategy: what decodes.
        processors: applied to the model's logits after the prompt, before they are guided.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(0, 1): [2.0, 1.9, 0.0], (1,): [2.0, 0.0, 0.0], (): [0.0, 0.0, 0.0]}))
        >>> model.generate([0, 1], od.Greedy(), max_new_tokens=1).tokens
        (0,)
        >>> model.generate([0, 1], od.ClassifierFreeGuidance(1.5), max_new_tokens=1).tokens
        (1,)
    """

    aliases = ("guidance_scale",)

    guidance_scale: float = 1.5
    negative_prompt: str | Iterable[int] | None = None
    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def __post_init__(self) -> None:
        scale = self.guidance_scale
        require(self, "guidance_scale", math.isfinite(scale) and scale >= 0, "a finite number of at least 0")
        given = self.negative_prompt
        if isinstance(given, Iterable) and not isinstance(given, str):
            object.__setattr__(self, "negative_prompt", tuple(given))
        ids = isinstance(self.negative_prompt, tuple) and all(map(is_whole, self.negative_prompt))
        fits = self.negative_prompt is None or (self.negative_prompt and (ids or isinstance(given, str)))
        require(self, "negative_prompt", bool(fits), "text or token ids, at least one, or none")

    def companions(self, request: Forward) -> list[Forward]:
        """The same generated tokens after the negative prompt; nothing of the prompt itself."""
        if self.guidance_scale == 1:
            return []
        rows = min(request.rows, 1 + request.sequence.generated_length)
        return [Forward(self._unconditional(request.sequence), rows)]

    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """Away from what is said without the prompt."""
        if self.guidance_scale == 1:
            return logits
        conditional = log_softmax(logits, sequence.logsumexp_of(logits))
        unconditional = log_softmax(others[0], self._unconditional(sequence).logsumexp_of(others[0]))
        return steered(conditional, self.guidance_scale - 1, conditional, unconditional)

    def _unconditional(self, sequence: Sequence) -> Sequence:
        return self._fold(sequence) or self._beginning(sequence)

    @cached_property
    def _fold(self) -> Fold[Sequence | None]:
        """Remembered on the sequences, so that what is cached of the unconditional one lives as long as they do."""

        def grown(before: Sequence | None, sequence: Sequence) -> Sequence:
            return (before or self._beginning(sequence.prompt)) + sequence.token

        return Fold[Sequence | None](None, grown, generated=True, key=("cfg", self.negative_prompt))

    def _beginning(self, prompt: Sequence) -> Sequence:
        vocabulary, negative = prompt.vocabulary, self.negative_prompt
        if negative is None:
            return vocabulary.prompt(prompt.tokens[-1:].tolist())
        return vocabulary.prompt(vocabulary.encode(negative) if isinstance(negative, str) else tuple(negative))
