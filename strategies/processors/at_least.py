"""At least: a lower bound on how many candidates a truncation leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence


@register("at_least")
@dataclass(frozen=True)
class AtLeast(LogitsProcessor):
    """What another processor leaves, and the most probable tokens in any case.

    Law: what `processor` removes stays removed, but for the `count` most probable of its input (ties to the lower id),
    which keep the logits that they had. It is meant for truncations, which change no logit.

    Source: Hugging Face transformers, `min_tokens_to_keep`, and llama.cpp, `min_keep`.

    Args:
        count: at least 1.
        processor: the truncation.

    Example:
        >>> import numpy as np
        >>> from ovdecode import AtLeast, Candidates, TopP, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])
        >>> AtLeast(2, TopP(0.3))(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [1, 2]
    """

    count: int
    processor: LogitsProcessor = field(default=Chain())

    def __post_init__(self) -> None:
        require(self, "count", self.count >= 1, "a whole number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """What the processor leaves, and the best."""
        left = self.processor(candidates, sequence)
        best = candidates.top(self.count)
        places = left.positions(best.ids)
        if len(places) == len(best) and (left.logits[places] > -np.inf).all():
            return left
        others = left.at((left.logits > -np.inf).nonzero()[0]).without(best.ids)
        ids = np.concatenate([others.ids, best.ids])
        order = ids.argsort()
        return Candidates(np.concatenate([others.logits, best.logits])[order], ids[order])
