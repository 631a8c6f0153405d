"""Likelihood: how probable a model finds a text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from math import fsum, inf, nan
from typing import ClassVar, TypeVar

import numpy as np

from ovdecode.forward import Forward
from ovdecode.metric import AskingMetric, Question, Result, SetMetric, TextMetric, ask, attempt, raised, require_model
from ovdecode.model import Model
from ovdecode.numerics import log_softmax
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence

ROWS = 32
"""Positions asked about at once: their logits are held together, and a row of them is as long as the vocabulary."""

Item = TypeVar("Item")


def pieces(items: Items[Item]) -> Iterator[list[Item]]:
    """The items in order, `ROWS` at a time."""
    return (list(items[start : start + ROWS]) for start in range(0, len(items), ROWS))


@dataclass(frozen=True)
class _Likelihood(TextMetric):
    """A figure of the log-probabilities of a text's tokens.

    Args:
        model: whose log-probabilities: a model or the source of one; None for those noted in decoding, which cost
            nothing.
    """

    model: Model | str | None = None

    def __post_init__(self) -> None:
        require_model(self)

    @abstractmethod
    def figure(self, logprobs: Items[float]) -> float:
        """The figure of a text, from the log-probability of each of its tokens."""

    def __call__(self, result: Result) -> float:
        """The figure of one text; NaN for no tokens, or if that of one is not known."""
        return raised(self.measure([result]))[0]

    def measure(self, results: Items[Result]) -> list[float | Exception]:
        """The figure of each text; another model is asked about all of them in one batch."""
        known = _logprobs(results, self.model)
        return [each if isinstance(each, Exception) else self.figure(each) if each else nan for each in known]


@register("logprob")
@dataclass(frozen=True)
class LogProbability(_Likelihood):
    """Log-probability of a text under a model.

    Law: the sum over its tokens of log p(token | prompt and the tokens before), before any processor; an end
    token that was generated counts. Another model that spells the tokens alike is asked about the same tokens;
    one that does not, about prompt and text as its own tokenizer writes each of them.

    Source: Shannon 1948, "A Mathematical Theory of Communication"; that decoding which maximises it is not what
    people write is the finding of Holtzman et al. 2020, arXiv:1904.09751.

    Args:
        mean: divide by the number of tokens.

    Example:
        >>> from ovdecode import LogProbability
        >>> from ovdecode.metric import Result
        >>> result = Result("ab", tokens=(0, 1), logprobs=(-0.5, -1.5))
        >>> LogProbability()(result), LogProbability(mean=True)(result)
        (-2.0, -1.0)
    """

    unit: ClassVar[str] = "nats"
    mean: bool = False

    def figure(self, logprobs: Items[float]) -> float:
        """Sum or mean."""
        return fsum(logprobs) / (len(logprobs) if self.mean else 1)


@register("perplexity")
@dataclass(frozen=True)
class Perplexity(_Likelihood):
    """Perplexity of a text under a model: how many equally probable tokens it was as unsure between.

    Law: exp of minus the mean of log p(token | prompt and the tokens before), before any processor; tokens are
    those of `logprob`. Perplexities of models with unlike vocabularies are not to be compared. Over many texts,
    `corpus_perplexity` is what papers print; the mean of this one is ruled by its outliers.

    Source: Jelinek, Mercer, Bahl, Baker 1977, "Perplexity: a measure of the difficulty of speech recognition tasks";
    of generated text in Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.

    Example:
        >>> from math import log
        >>> from ovdecode import Perplexity
        >>> from ovdecode.metric import Result
        >>> round(Perplexity()(Result("ab", tokens=(0, 1), logprobs=(log(1 / 2), log(1 / 8)))), 6)
        4.0
    """

    def figure(self, logprobs: Items[float]) -> float:
        """exp of minus the mean."""
        return _perplexity(logprobs)


@register("corpus_perplexity")
@dataclass(frozen=True)
class CorpusPerplexity(SetMetric):
    """Perplexity of all tokens of many texts.

    Law: exp of minus the mean of log p over the tokens of all texts, so that a long text counts more; a text
    whose log-probabilities are not known makes it NaN, an empty one counts nothing.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751 (table 1, as
    their `metrics/perplexity.py` computes it; for a method with a temperature, their `gen.py` notes what the model says
    at that temperature, before any truncation).

    Args:
        model: as in `perplexity`.
        temperature: p is the model's at this temperature, for which it is asked again; above 0.

    Example:
        >>> from math import log
        >>> from ovdecode import CorpusPerplexity
        >>> from ovdecode.metric import Result
        >>> one, other = Result("a", (0,), (log(1 / 8),)), Result("bb", (1, 1), (log(1 / 2), log(1 / 4)))
        >>> round(CorpusPerplexity()([one, other]), 6)
        4.0
    """

    model: Model | str | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_model(self)
        require(self, "temperature", 0 < self.temperature < inf, "a finite number above 0")

    def __call__(self, results: Items[Result]) -> float:
        """The perplexity; NaN for no tokens."""
        if self.temperature == 1:
            known = _logprobs(results, self.model)
        else:
            known = ask(results, partial(_ask_tempered, self.temperature), self.model)
        logprobs = [logprob for each in raised(known) for logprob in each]
        return _perplexity(logprobs) if logprobs else nan


@register("entropy")
@dataclass(frozen=True)
class Entropy(AskingMetric):
    """Mean entropy of the model's next-token distributions along a text: how open its next step was.

    Law: the mean over the text's tokens of - sum over v of p(v) log p(v), where p is the model's distribution
    before that token and before any processor. The model that decoded is asked again, about all positions at
    once, since no distribution is kept.

    Source: Shannon 1948, "A Mathematical Theory of Communication"; along generated text in Braverman et al.
    2020, "Calibration, Entropy Rates, and Memory in Language Models", arXiv:1906.05664.

    Example:
        >>> import ovdecode as od
        >>> from ovdecode.metric import Result
        >>> coin = od.Model(od.TableRunner([[0.0, 0.0], [0.0, 0.0]]))
        >>> round(od.Entropy()(Result.of(coin.generate([0], max_new_tokens=3))), 4)  # log 2
        0.6931
    """

    unit: ClassVar[str] = "nats"

    def question(self, prompt: Sequence, tokens: Items[int]) -> Question[float]:
        """Ask about the position before each token."""
        entropies: list[float] = []
        sequence = prompt
        for piece in pieces(tokens):
            asked = sequence + piece[:-1]
            for row in (yield Forward(asked, last=len(piece))):  # (vocab,)
                logprobs = log_softmax(row)
                possible = logprobs[logprobs > -np.inf]
                entropies.append(-float(np.dot(np.exp(possible), possible)))
            sequence = asked + piece[-1]
        return fsum(entropies) / len(entropies) if entropies else nan


def _logprobs(results: Items[Result], model: Model | str | None) -> list[tuple[float, ...] | Exception]:
    if model is None:
        return [attempt(lambda result: result.logprobs, result) for result in results]
    return ask(results, _ask_logprobs, model)


def _ask_logprobs(prompt: Sequence, tokens: Items[int]) -> Question[tuple[float, ...]]:
    """The log-probability of each token after a prompt: the tree learns it from the answers."""
    sequence = prompt
    for piece in pieces(tokens):
        asked = sequence + piece[:-1]
        yield Forward(asked, last=len(piece))
        sequence = asked + piece[-1]
    return sequence.token_logprobs


def _ask_tempered(temperature: float, prompt: Sequence, tokens: Items[int]) -> Question[tuple[float, ...]]:
    """The log-probability of each token after a prompt, at a temperature."""
    logprobs: list[float] = []
    sequence = prompt
    for piece in pieces(tokens):
        asked = sequence + piece[:-1]
        rows = yield Forward(asked, last=len(piece))  # (tokens of the piece, vocab)
        logprobs += (float(log_softmax(row / temperature)[token]) for row, token in zip(rows, piece, strict=True))
        sequence = asked + piece[-1]
    return tuple(logprobs)


def _perplexity(logprobs: Items[float]) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(-fsum(logprobs) / len(logprobs)))
