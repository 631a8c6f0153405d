"""Sampling with feedback as engines run it: by what was left to draw from, not by what the model itself said."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.plugin import one_of, require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.processors.surprise import (
    check_control,
    check_target,
    nearest_most_probable,
    surprising_at_most,
    zipf_rank,
)
from ovdecode.strategy import Decoding, Strategy

Version = Literal[1, 2]


@dataclass(frozen=True)
class FeedbackSampling(Strategy):
    """A number that steers what each token is drawn from, and is moved by what was drawn."""

    commits: ClassVar[bool] = True

    @property
    @abstractmethod
    def start(self) -> float:
        """The number before the first token."""

    @abstractmethod
    def steered(self, candidates: Candidates, state: float, vocab_size: int) -> Candidates:
        """What a token is drawn from, given what the processors left."""

    @abstractmethod
    def moved(self, state: float, before: float, after: float) -> float:
        """The number after a token that had these probabilities before and after steering."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Draw and move until the stop."""
        sequence, state = prompt, self.start
        while not stop(sequence):
            logits = yield sequence
            candidates = self.candidates(logits, sequence)
            left = self.steered(candidates, state, prompt.vocabulary.size)
            token = left.draw(rng)
            state = self.after(state, candidates, left, token)
            sequence += token
        return sequence

    def after(self, state: float, candidates: Candidates, left: Candidates, token: int) -> float:
        """The number after a token, drawn from what steering left of the candidates."""
        before, after = (float(each.probabilities_of(np.array([token]))[0]) for each in (candidates, left))
        return self.moved(state, before, after)


@register("mirostat_sampling")
@dataclass(frozen=True)
class MirostatSampling(FeedbackSampling):
    """Mirostat as llama.cpp runs it: the surprise that is held at a target is that of the truncated distribution.

    Law: of what the processors leave, those tokens stay that the processors `mirostat` (version 2) and `mirostat_1`
    (k rounded down) keep for the same μ, at least one; the next is drawn from them. μ begins as 2·tau, and each token
    moves it by -eta · (S - tau), where S is its surprise among those that stayed. So a token that was certain counts
    as no surprise, and the text is more surprising to the model than tau says.

    What is steered by depends on all that was left at earlier steps, which a processor does not know: so this is a
    strategy, and no search or draft can go through it. In llama.cpp a temperature is all that comes before.

    Source: llama.cpp, `llama_sampler_init_mirostat_v2`; after Basu, Ramachandran, Keskar, Varshney 2021, "Mirostat: A
    Neural Text Decoding Algorithm that Directly Controls Perplexity", arXiv:2007.14966.

    Args:
        tau: target in bits, a finite number above 0.
        eta: learning rate, a finite number of at least 0.
        version: 1, with Zipf's law, or 2.
        m: version 1 estimates Zipf's exponent from so many tokens; at least 2.

    Example:
        >>> import numpy as np
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): np.log([0.5, 0.25, 0.125, 0.125])}))       # 1, 2, 3, 3 bits
        >>> model.generate([0], od.MirostatSampling(tau=0.5, eta=0), max_new_tokens=3).tokens   # at most 1 bit
        (0, 0, 0)
    """

    tau: float = 5.0
    eta: float = 0.1
    version: Version = 2
    m: int = 100

    def __post_init__(self) -> None:
        check_control(self, self.tau, self.eta)
        one_of("version", self.version, Version)
        require(self, "m", self.m >= 2, "a whole number of at least 2")

    @property
    def start(self) -> float:
        """μ before the first token."""
        return 2 * self.tau

    def steered(self, candidates: Candidates, state: float, vocab_size: int) -> Candidates:
        """The candidates that are not too surprising."""
        if self.version == 2:
            return surprising_at_most(candidates, state)
        return candidates.top(max(1, int(zipf_rank(candidates, state, self.m, vocab_size))))

    def moved(self, state: float, before: float, after: float) -> float:
        """The next μ."""
        return state - self.eta * (-math.log2(after) - self.tau)


@register("adaptive_p_sampling")
@dataclass(frozen=True)
class AdaptivePSampling(FeedbackSampling):
    """Adaptive-p as llama.cpp runs it: the mean that is held at a target is of what the processors had left.

    Law: the next token is drawn from what `adaptive_p` makes of the candidates that the processors leave. Its running
    mean M begins as `target`, and each token makes it decay · M + (1 - decay) · (its probability among the candidates
    that the processors had left), where the processor `adaptive_p` takes the probability under the model itself.

    As with `mirostat_sampling`, no search or draft can go through it. Put a truncation into `processors`, such as
    llama.cpp's min-p of 0.05: there are many tokens of probability 0, and their logits are not low.

    Source: llama.cpp pull request 17927 (ddh0, after MrJackSpade, 2025).

    Args:
        target: from 0 to 1; 0.3 to 0.8 is usual.
        decay: from 0 to 0.99.

    Example:
        >>> import numpy as np
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): np.log([0.5, 0.25, 0.25])}))
        >>> strategy = od.AdaptivePSampling(target=1.0, processors=od.TopK(1))
        >>> model.generate([0], strategy, max_new_tokens=3).tokens
        (0, 0, 0)
    """

    target: float
    decay: float = 0.9

    def __post_init__(self) -> None:
        check_target(self, self.target, self.decay)

    @property
    def start(self) -> float:
        """The mean before the first token."""
        return self.target

    def steered(self, candidates: Candidates, state: float, vocab_size: int) -> Candidates:
        """The same tokens, with other logits."""
        return nearest_most_probable(candidates, 2 * self.target - state)

    def moved(self, state: float, before: float, after: float) -> float:
        """The next mean."""
        return self.decay * state + (1 - self.decay) * before
