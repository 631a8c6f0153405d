"""The best of several decodings of one prompt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isnan
from typing import ClassVar, Literal

from ovdecode.forward import Forward
from ovdecode.plugin import is_whole, require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy, gather, outcome


@register("best_of_n")
@dataclass(frozen=True)
class BestOfN(Strategy):
    """Of n decodings by another strategy, the one that the model itself holds to be the most probable.

    Law: decoding i is what the other strategy does with the i-th independent stream of random numbers. All
    run in one batch and share the prompt. They are ranked by the model's own log-probability, before any
    processor; equals stay in the order of i.
    Source: Stiennon et al. 2020, "Learning to summarize from human feedback" (best-of-n by a reward); ranked
    by the model's mean log-probability as in Adiwardana et al. 2020, "Towards a Human-like Open-Domain
    Chatbot".

    Args:
        n: how many decodings; at least 1.
        strategy: what makes each of them.
        score: `logprob`, the sum over the generated tokens, or `mean_logprob`, the sum by their number, which
            does not favour short texts.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[3, 0], [3, 0]]))
        >>> generation = model.generate([0], od.BestOfN(n=8), max_new_tokens=2)
        >>> [each.tokens for each in generation.alternatives][:1], len(generation.alternatives)
        ([(0, 0)], 8)
    """

    commits: ClassVar[bool] = False

    n: int = 4
    strategy: Strategy = field(default=Sampling())
    score: Literal["logprob", "mean_logprob"] = "logprob"

    def __post_init__(self) -> None:
        whole = is_whole(self.n)
        require(self, "n", whole and self.n >= 1, "a whole number of at least 1")
        require(self, "score", self.score in ("logprob", "mean_logprob"), "logprob or mean_logprob")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Run all, then rank."""
        each = replace(self.strategy, processors=self.processors | self.strategy.processors)
        results = yield from gather(each.decode(prompt, stop, rng.split(index)) for index in range(self.n))
        sequences = [outcome(result).sequence for result in results]
        # A token not chosen from logits (a forced phrase) has no known probability until the model is asked.
        unknown = [one for one in sequences if isnan(one.logprob)]
        if unknown:
            yield [Forward(one, last=one.generated_length + 1) for one in unknown]
        ranked = [Hypothesis(sequence, self._score(sequence, prompt)) for sequence in sequences]
        return Outcome(tuple(sorted(ranked, key=lambda hypothesis: -hypothesis.score)))

    def _score(self, sequence: Sequence, prompt: Sequence) -> float:
        logprob = sequence.logprob - prompt.logprob
        return logprob if self.score == "logprob" else logprob / max(sequence.length - prompt.length, 1)
