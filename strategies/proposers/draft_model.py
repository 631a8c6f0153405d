"""Drafts by a smaller model."""

from __future__ import annotations

from dataclasses import dataclass, field

from ovdecode.candidates import Candidates
from ovdecode.forward import Forward
from ovdecode.model import Model
from ovdecode.plugin import is_whole, require
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.proposer import Drafted, Law, Proposer, Proposing
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop


@register("draft_model")
@dataclass(frozen=True)
class DraftModel(Proposer):
    """Tokens that a smaller model of the same vocabulary draws, one after the other.

    The draft follows the law of the strategy that verifies it, with the draft model's logits: the same
    processors, and greedy if the strategy is. A draft model equal to the model is always accepted.
    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding".

    Args:
        model: who drafts, or a source to load it from.
        num_tokens: length of a draft; at least 1.
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

    model: Model | str
    num_tokens: int = 4
    processors: LogitsProcessor = field(default=Chain(), kw_only=True)

    def __post_init__(self) -> None:
        require(self, "model", isinstance(self.model, Model | str), "a model, or the source of one")
        whole = is_whole(self.num_tokens)
        require(self, "num_tokens", whole and self.num_tokens >= 1, "a whole number of at least 1")

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        """Decode with the draft model, and keep what each token was drawn from."""
        draft: list[Drafted] = []
        while len(draft) < self.num_tokens and not stop(sequence):
            logits = yield Forward(sequence, model=self.model)
            processed = self.processors(Candidates(logits), sequence).spread(len(logits))
            distribution = law(processed, sequence)
            draft.append(Drafted(rng.choose(distribution), distribution))
            sequence += draft[-1].token
        return draft
