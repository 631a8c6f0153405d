"""Sampling by the Gumbel-max trick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from ovdecode.candidates import Candidates
from ovdecode.forward import Logits
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategy import Decoding, Stepwise


@register("gumbel")
@dataclass(frozen=True)
class GumbelSampling(Stepwise):
    """The best token after adding Gumbel noise to each logit: a draw from the distribution, as an argmax.

    Law: exactly that of `strategy`. With independent standard Gumbel noise g, the argmax of logit + g is
    token i with the probability softmax(logits)_i. The noise at a step has one number a token, whatever its
    probability, so that runs with the same seed stay alike when the logits change a little.
    Source: Gumbel 1954, "Statistical Theory of Extreme Values and Some Practical Applications"; Maddison,
    Tarlow, Minka 2014, "A* Sampling" (arXiv:1411.0030).

    Args:
        strategy: whose law is drawn from.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 1, 2], [2, 0, 1], [1, 2, 0]]))
        >>> model.generate([0], od.GumbelSampling(od.Sampling(top_k=1)), max_new_tokens=3).tokens
        (2, 1, 0)
    """

    strategy: Stepwise = field(default=Sampling())

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend by the perturbed argmax until the stop."""
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            law = self.law(logits, sequence)
            (best,), _ = rng.gumbel_noise().largest(law, 1)
            sequence += law.token(int(best))
        return sequence

    def law(self, logits: Logits, sequence: Sequence) -> Candidates:
        """What `strategy` draws from."""
        return self._drawn.law(logits, sequence)

    @cached_property
    def _drawn(self) -> Stepwise:
        return replace(self.strategy, processors=self.processors | self.strategy.processors)
