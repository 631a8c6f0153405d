"""Speculative sampling: drafted tokens, verified several at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from ovdecode.forward import Forward, Logits
from ovdecode.plugin import require
from ovdecode.proposer import Distribution, Drafted, Proposer
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.proposers.prompt_lookup import PromptLookup
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy


@register("speculative")
@dataclass(frozen=True)
class Speculative(Strategy):
    """What another strategy would decode, in fewer inferences: a proposer drafts, one inference verifies.

    Law: exactly that of `strategy`, for any proposer and any processors. A drafted token x, drawn from q, is
    accepted with probability min(1, p(x) / q(x)), where p is the distribution of `strategy` after the tokens
    before x. The first one that is rejected is replaced by a draw from (p − q)+, normalised, and the rest of
    the draft is dropped; if all are accepted, one more is drawn from p. Greedy decoding is the case of a p
    that is certain: it gives the same tokens.
    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding"; Chen
    et al. 2023, "Accelerating Large Language Model Decoding with Speculative Sampling".

    The result's `info` counts `rounds` (inferences of the model), `drafted` and `accepted` tokens;
    `acceptance` is accepted / drafted, 0 if nothing was drafted.

    Args:
        strategy: whose law is kept: greedy or sampling, with their processors.
        proposer: who drafts.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        >>> generation = model.generate([0, 1, 2, 0], od.Speculative(), max_new_tokens=6)
        >>> generation.tokens, dict(generation.info)
        ((1, 2, 0, 1, 2, 0), {'rounds': 2, 'drafted': 5, 'accepted': 5, 'acceptance': 1.0})
    """

    commits: ClassVar[bool] = True

    strategy: Greedy | Sampling = field(default=Greedy())
    proposer: Proposer = field(default=PromptLookup())

    def __post_init__(self) -> None:
        stepwise = isinstance(self.strategy, Greedy | Sampling)
        require(self, "strategy", stepwise, "greedy or sampling, whose tokens can be verified one by one")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Draft, verify, keep what is accepted and one token more."""
        sequence = prompt
        rounds = drafted = accepted = 0
        while not stop(sequence):
            proposed = yield from self.proposer.propose(sequence, stop, self.law, rng)
            draft = _unfinished(proposed, sequence, stop)
            ahead = sequence + [each.token for each in draft]
            rows = yield Forward(ahead, last=len(draft) + 1)
            rounds, drafted = rounds + 1, drafted + len(draft)
            for logits, proposal in zip(rows, [*draft, None], strict=True):
                target = self.law(logits, sequence)
                token, keep = verify(target, proposal, rng)
                sequence, accepted = sequence + token, accepted + keep
                if not keep or stop(sequence):
                    break
        info = {
            "rounds": rounds,
            "drafted": drafted,
            "accepted": accepted,
            "acceptance": accepted / max(drafted, 1),
        }
        return Outcome((Hypothesis(sequence, sequence.logprob),), info)

    def law(self, logits: Logits, sequence: Sequence) -> Distribution:
        """The distribution of the next token, shape (vocab,): softmax of the processed logits, or certainty
        of the best."""
        candidates = self._target.candidates(logits, sequence)
        if isinstance(self._target, Greedy):
            candidates = candidates.top(1)
        return candidates.distribution(len(logits))

    @cached_property
    def _target(self) -> Greedy | Sampling:
        return replace(self.strategy, processors=self.processors | self.strategy.processors)


def verify(target: Distribution, proposal: Drafted | None, rng: Random) -> tuple[int, bool]:
    """A token with the law of `target`, shape (vocab,), and whether it is the proposed one."""
    if proposal is None:
        return rng.choose(target), False
    draft = proposal.law(len(target))
    if rng.flip(min(1.0, target[proposal.token] / draft[proposal.token])):
        return proposal.token, True
    rest = np.maximum(target - draft, 0.0)
    # Equal up to rounding, the two may leave nothing over; there is then nothing to correct either.
    return rng.choose(rest if rest.any() else target), False


def _unfinished(proposed: list[Drafted], sequence: Sequence, stop: Stop) -> list[Drafted]:
    """The draft up to and including the first token that finishes the sequence: nothing is asked beyond a
    stop."""
    for count, each in enumerate(proposed, start=1):
        sequence += each.token
        if stop(sequence):
            return proposed[:count]
    return proposed
