"""Speculative sampling: drafted tokens, verified several at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from ovdecode.proposer import Proposer
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.proposers.prompt_lookup import PromptLookup
from ovdecode.strategies.verification import Supposed, Verifier
from ovdecode.strategy import Decoding, Stepwise, Strategy


@register("speculative")
@dataclass(frozen=True)
class Speculative(Strategy):
    """What another strategy would decode, in fewer inferences: a proposer drafts, one inference verifies.

    Law: exactly that of `strategy` on the same logits, for any proposer and any processors. A drafted token
    x, drawn from q, is accepted with probability min(1, p(x) / q(x)), where p is the distribution of
    `strategy` after the tokens before x. The first one that is rejected is replaced by a draw from (p − q)+,
    normalised, and the rest of the draft is dropped; if all are accepted, one more is drawn from p. Greedy
    decoding is the case of a p that is certain: it gives the same tokens. A draft may have alternatives, and
    is then a tree: each is tried with what those before it have left of p.
    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding"; Chen
    et al. 2023, "Accelerating Large Language Model Decoding with Speculative Sampling"; trees: Miao et al.
    2024, "SpecInfer: Accelerating Large Language Model Serving with Tree-based Speculative Inference and
    Verification".

    The result's `info` counts `rounds` (inferences of the model that verify), `drafted` and `accepted` tokens;
    `acceptance` is accepted / drafted, 0 if nothing was drafted. At most one alternative of several can be
    accepted.

    Args:
        strategy: whose law is kept; one that draws token by token, such as greedy and sampling.
        proposer: who drafts.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        >>> generation = model.generate([0, 1, 2, 0], od.Speculative(), max_new_tokens=6)
        >>> generation.tokens, dict(generation.info)
        ((1, 2, 0, 1, 2, 0), {'rounds': 2, 'drafted': 4, 'accepted': 4, 'acceptance': 1.0})
    """

    aliases = ("assisted_generation", "assisted_decoding", "speculative_decoding", "speculative_sampling")
    commits: ClassVar[bool] = True

    strategy: Stepwise = field(default=Greedy())
    proposer: Proposer = field(default=PromptLookup())

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Draft, verify, keep what is accepted and one token more."""
        sequence, verifier = prompt, Verifier(self.target.law, stop, rng)
        while not stop(sequence):
            supposed = Supposed(sequence)
            stops, law = supposed.stop(stop), supposed.law(self.target.law)
            draft = yield from self.proposer.propose(sequence, stops, law, rng)
            sequence = (yield from verifier.verify(sequence, draft)).sequence
        return verifier.outcome(sequence)

    @cached_property
    def target(self) -> Stepwise:
        """The strategy with all processors."""
        return replace(self.strategy, processors=self.processors | self.strategy.processors)
