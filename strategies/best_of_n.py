"""The best of several decodings of one prompt."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import fsum, isnan
from numbers import Real
from typing import Any, Literal

from ovdecode.errors import StrategyError
from ovdecode.forward import Forward, Logits
from ovdecode.model import Model
from ovdecode.numerics import logsumexp
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategies.several import decodings, finish
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Request, Strategy

Reward = Callable[[Sequence], float]


@register("best_of_n")
@dataclass(frozen=True)
class BestOfN(Strategy):
    """Of n decodings by another strategy, the one with the best score.

    Law: decoding i is what the other strategy does with the i-th independent stream of random numbers. All
    run in one batch and share the prompt. They are ranked by the score; equals stay in the order of i.
    Source: Stiennon et al. 2020, "Learning to summarize from human feedback" (best-of-n by a reward); ranked
    by the model's mean log-probability as in Adiwardana et al. 2020, "Towards a Human-like Open-Domain
    Chatbot".

    Args:
        n: how many decodings; at least 1.
        strategy: what makes each of them.
        score: `logprob`, the log-probability of the generated tokens, before any processor; `mean_logprob`,
            that by their number, which does not favour short texts; or a reward, any function of the finished
            `Sequence` to a number (it has no spec string).
        model: whose log-probability it is, a model of the same vocabulary or the source of one; None for the
            model that decodes.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[1, 0], [1, 0]]))
        >>> generation = model.generate([0], od.BestOfN(n=8), max_new_tokens=2)
        >>> [each.tokens for each in generation.alternatives][:1], len(generation.alternatives)
        ([(0, 0)], 8)
        >>> ones = od.BestOfN(n=64, score=lambda sequence: sum(sequence.generated.tolist()))
        >>> model.generate([0], ones, max_new_tokens=2).tokens
        (1, 1)
    """

    aliases = ("best_of", "rerank")

    n: int = 4
    strategy: Strategy = field(default=Sampling())
    score: Literal["logprob", "mean_logprob"] | Reward = "logprob"
    model: Model | str | None = None

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        known = callable(self.score) or self.score in ("logprob", "mean_logprob")
        require(self, "score", known, "logprob, mean_logprob, or a function of a sequence")
        named = self.model is None or isinstance(self.model, Model | str)
        require(self, "model", named, "a model, the source of one, or none")
        require(self, "model", self.model is None or not callable(self.score), "none where `score` is a function")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Run all, then rank."""
        running = decodings(self.strategy, self.n, prompt, stop, rng, processors=self.processors)
        sequences = [one for (one,) in (yield from finish(running))]
        scores = yield from self._scores(sequences, prompt)
        ranked = [Hypothesis(sequence, score) for sequence, score in zip(sequences, scores, strict=True)]
        return Outcome(tuple(sorted(ranked, key=lambda hypothesis: -hypothesis.score)))

    def _scores(self, sequences: list[Sequence], prompt: Sequence) -> Generator[list[Request], Any, list[float]]:
        if callable(self.score):
            return [_number(self.score(sequence)) for sequence in sequences]
        lengths = [sequence.generated_length - prompt.generated_length for sequence in sequences]
        logprobs = [sequence.logprob - prompt.logprob for sequence in sequences]
        if self.model is not None:
            rows = yield [
                Forward(sequence, last=length + 1, model=self.model)
                for sequence, length in zip(sequences, lengths, strict=True)
            ]
            logprobs = [_logprob(sequence, given) for sequence, given in zip(sequences, rows, strict=True)]
        if self.score == "logprob":
            return logprobs
        return [logprob / max(length, 1) for logprob, length in zip(logprobs, lengths, strict=True)]


def _logprob(sequence: Sequence, rows: Logits) -> float:
    """Log-probability of the last tokens of a sequence; rows of shape (tokens + 1, vocab), the last one unused."""
    tokens = sequence.tokens[sequence.length - len(rows) + 1 :]
    return fsum(float(row[token]) - logsumexp(row) for token, row in zip(tokens, rows[:-1], strict=True))


def _number(score: object) -> float:
    if not isinstance(score, Real) or isnan(score):
        raise StrategyError(f"`score` of `best_of_n` must return a number, got {score!r:.80}")
    return float(score)
