"""Drafts by a smaller model."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from ovdecode.forward import Forward, Logits
from ovdecode.model import Model
from ovdecode.plugin import require
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.proposers.drawing import Drawing


@register("draft_model")
@dataclass(frozen=True)
class DraftModel(Drawing):
    """Tokens that a smaller model of the same vocabulary draws, one after the other.

    The draft follows the law of the strategy that verifies it, with the draft model's logits: the same
    processors, and greedy if the strategy is. A draft model equal to the model is always accepted.
    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding".

    Args:
        model: who drafts, or a source to load it from.
        num_tokens: length of a draft; at least 1.
        threshold: a draft ends after a token that the draft model gives less than this probability; 0 < threshold <= 1.
            None drafts on.
        processors: applied to the draft model's logits only, before those of the strategy.

    Example:
        >>> import ovdecode as od
        >>> rows = [[0, 9, 0], [0, 0, 9], [9, 0, 0]]
        >>> model, small = od.Model(od.TableRunner(rows)), od.Model(od.TableRunner(rows))
        >>> strategy = od.Speculative(proposer=od.DraftModel(small, num_tokens=3))
        >>> generation = model.generate([0], strategy, max_new_tokens=8)
        >>> generation.tokens, generation.info["rounds"]
        ((1, 2, 0, 1, 2, 0, 1, 2), 2)
    """

    aliases = ("assistant_model",)

    model: Model | str
    num_tokens: int = 4
    threshold: float | None = None
    processors: LogitsProcessor = field(default=Chain(), kw_only=True)

    def __post_init__(self) -> None:
        require(self, "model", isinstance(self.model, Model | str), "a model, or the source of one")
        super().__post_init__()

    def ask(self, sequence: Sequence) -> Generator[Forward, Any, Logits]:
        """What the draft model says."""
        logits: Logits = yield Forward(sequence, model=self.model)
        return logits
