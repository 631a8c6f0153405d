"""The switch of entropix: how sure the model is decides how the next token is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.shared import tempered


@register("entropix")
@dataclass(frozen=True)
class Entropix(LogitsProcessor):
    """Another temperature, or the best token alone, by the entropy of the distribution and its variance.

    Law: with H the mean and V the variance of the candidates' surprise -log2 p, and T the `temperature`, the first of
    these that holds is done; every comparison is strict.

    | H | V | what happens | in the source's words |
    |---|---|---|---|
    | < low | < low | the best token alone | flowing with unspoken intent |
    | > high | < low | the token `clarify` alone, if possible and not just said; else min(1.3, 1.5·T) | asking |
    | < high | > high | min(1.2, 1.5·T) | exploring forks in the path |
    | > high | > high | max(2, 3·T) | resampling in the mist |
    | any | any | T · (H + V) / 10, the quotient kept between 0.5 and 2 | in between |

    Source: xjdr 2024, repository entropix, its first sampler (4 October 2024), whose defaults these are; it then takes
    the 27 best and a nucleus of 0.9, which is `| TopK(27) | TopP(0.9)`. Later ones look at attention scores too.

    Args:
        temperature: a finite number above 0.
        low_entropy: in bits, as are all bounds; at least 0.
        high_entropy: at least `low_entropy`.
        low_varentropy: in bits squared; at least 0.
        high_varentropy: at least `low_varentropy`.
        clarify: a token that makes the text stop and ask, if there is one.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Entropix, Vocabulary
        >>> sure = Candidates(np.array([9.0, 0.0, 0.0]))
        >>> Entropix()(sure, Vocabulary(3).root)
        Candidates({0: 9})
        >>> even = Candidates(np.zeros(64))                                  # 6 bits, each of them
        >>> Entropix(clarify=7)(even, Vocabulary(64).root)
        Candidates({7: 0})
    """

    temperature: float = 0.666
    low_entropy: float = 0.1
    high_entropy: float = 5.0
    low_varentropy: float = 0.1
    high_varentropy: float = 5.0
    clarify: int | None = None

    def __post_init__(self) -> None:
        require(self, "temperature", 0 < self.temperature < math.inf, "a finite number above 0")
        require(self, "low_entropy", self.low_entropy >= 0, "a number of at least 0")
        require(self, "high_entropy", self.high_entropy >= self.low_entropy, "at least `low_entropy`")
        require(self, "low_varentropy", self.low_varentropy >= 0, "a number of at least 0")
        require(self, "high_varentropy", self.high_varentropy >= self.low_varentropy, "at least `low_varentropy`")
        require(self, "clarify", self.clarify is None or self.clarify >= 0, "a token id, or None")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates, at another temperature or but one of them."""
        entropy, varentropy = moments(candidates)
        if entropy < self.low_entropy and varentropy < self.low_varentropy:
            return candidates.top(1)
        if entropy > self.high_entropy and varentropy < self.low_varentropy:
            question = self._question(candidates, sequence)
            return candidates.divided(min(1.3, 1.5 * self.temperature)) if question is None else question
        if entropy < self.high_entropy and varentropy > self.high_varentropy:
            return candidates.divided(min(1.2, 1.5 * self.temperature))
        if entropy > self.high_entropy and varentropy > self.high_varentropy:
            return candidates.divided(max(2.0, 3 * self.temperature))
        return tempered(candidates, self.temperature * min(max((entropy + varentropy) / 10, 0.5), 2.0))

    def _question(self, candidates: Candidates, sequence: Sequence) -> Candidates | None:
        """The clarifying token, unless it has just been said."""
        if self.clarify is None or sequence.token == self.clarify:
            return None
        question = candidates.only(np.array([self.clarify]))
        return question if len(question) and question.logits[0] > -np.inf else None


def moments(candidates: Candidates) -> tuple[float, float]:
    """Mean and variance of the surprise -log2 p: the entropy in bits, and the varentropy."""
    entropy = candidates.entropy
    distances = candidates.logits - candidates.logits.dtype.type(candidates.logsumexp - entropy)  # from their mean
    varentropy = candidates.mean(np.square(distances, out=distances))
    return entropy / math.log(2), varentropy / math.log(2) ** 2
