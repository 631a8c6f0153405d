"""Penalties: what has been said before becomes less likely, or impossible, to be said again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import is_whole, require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import ban


@register("repetition")
@dataclass(frozen=True)
class RepetitionPenalty(LogitsProcessor):
    """Logits of tokens seen before, moved down by a factor.

    Law: once for each distinct token seen, however often: a negative logit is multiplied by the penalty, any
    other is divided by it. 1 leaves all as it is; below 1 rewards repetition. The law depends on where the
    logits' zero lies.

    Source: Keskar, McCann, Varshney, Xiong, Socher 2019, "CTRL", arXiv:1909.05858 (which divides only;
    multiplying negative logits is Hugging Face transformers' correction, and everybody's since).

    Args:
        penalty: above 0; 1.1 to 1.3 is usual.
        window: look at that many last tokens only, at least 1; None looks at all.
        prompt: whether the prompt's tokens count as seen.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, RepetitionPenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0]) + [1, 1]
        >>> RepetitionPenalty(2.0)(Candidates(np.array([-1.0, 3.0, 2.0])), sequence)
        Candidates({0: -2, 1: 1.5, 2: 2})
    """

    penalty: float
    window: int | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        positive = isinstance(self.penalty, Real) and 0 < self.penalty < math.inf
        require(self, "penalty", positive, "a finite number above 0")
        counted = self.window is None or (is_whole(self.window) and self.window >= 1)
        require(self, "window", counted, "a whole number of at least 1, or None for all tokens")
        require(self, "prompt", isinstance(self.prompt, bool), "true or false")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those seen with other logits."""
        seen = sequence.tokens if self.prompt else sequence.generated
        if self.window is not None:
            seen = seen[-self.window :]
        # A token seen twice is written twice, each time from its old logit.
        places = candidates.positions(seen)
        before = candidates.logits[places]
        logits = candidates.logits.copy()
        logits[places] = np.where(before < 0, before * float(self.penalty), before / float(self.penalty))
        return candidates.with_logits(logits)


@register("presence")
@dataclass(frozen=True)
class PresencePenalty(LogitsProcessor):
    """Logits of tokens generated before, moved down by an amount.

    Law: l_i becomes l_i - penalty · [count_i > 0], where count_i is how often token i was generated; the
    prompt does not count.

    Source: OpenAI 2020, API reference, "Frequency and presence penalties".

    Args:
        penalty: any finite number, -2 to 2 is usual; negative rewards repetition.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, PresencePenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0]) + [1, 1]
        >>> PresencePenalty(0.5)(Candidates(np.array([1.0, 3.0, 2.0])), sequence)
        Candidates({0: 1, 1: 2.5, 2: 2})
    """

    penalty: float

    def __post_init__(self) -> None:
        finite = isinstance(self.penalty, Real) and math.isfinite(self.penalty)
        require(self, "penalty", finite, "a finite number")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those generated with lower logits."""
        places = candidates.positions(sequence.generated)
        logits = candidates.logits.copy()
        logits[places] = candidates.logits[places] - float(self.penalty)
        return candidates.with_logits(logits)


@register("frequency")
@dataclass(frozen=True)
class FrequencyPenalty(LogitsProcessor):
    """Logits of tokens generated before, moved down by an amount for each time.

    Law: l_i becomes l_i - penalty · count_i, where count_i is how often token i was generated; the prompt
    does not count.

    Source: OpenAI 2020, API reference, "Frequency and presence penalties".

    Args:
        penalty: any finite number, -2 to 2 is usual; negative rewards repetition.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, FrequencyPenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0]) + [1, 1]
        >>> FrequencyPenalty(0.5)(Candidates(np.array([1.0, 3.0, 2.0])), sequence)
        Candidates({0: 1, 1: 2, 2: 2})
    """

    penalty: float

    def __post_init__(self) -> None:
        finite = isinstance(self.penalty, Real) and math.isfinite(self.penalty)
        require(self, "penalty", finite, "a finite number")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those generated with lower logits."""
        tokens, counts = np.unique(sequence.generated, return_counts=True)
        places = candidates.positions(tokens)
        found = places if candidates.dense else candidates.ids[places]
        logits = candidates.logits.copy()
        logits[places] -= float(self.penalty) * counts[np.isin(tokens, found)]
        return candidates.with_logits(logits)


@register("no_repeat_ngram")
@dataclass(frozen=True)
class NoRepeatNgram(LogitsProcessor):
    """No token that would complete an n-gram for the second time.

    Law: a token is impossible if the last size - 1 tokens and it occur in that order anywhere in the
    sequence, prompt included. A size of 1 forbids every token seen.

    Source: Paulus, Xiong, Socher 2017, "A Deep Reinforced Model for Abstractive Summarization",
    arXiv:1705.04304.

    Args:
        size: at least 1; 3 or 4 is usual.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, NoRepeatNgram, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0, 1]) + [2, 0]  # "0 1" is there, and 0 has come again
        >>> NoRepeatNgram(2)(Candidates(np.array([1.0, 3.0, 2.0])), sequence).argmax()
        2
    """

    size: int

    def __post_init__(self) -> None:
        require(self, "size", is_whole(self.size) and self.size >= 1, "a whole number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that complete no n-gram seen before."""
        completions = np.unique(_completions(sequence.tokens, self.size))
        return ban(candidates, completions) if len(completions) else candidates


def _completions(tokens: NDArray[np.int64], size: int) -> NDArray[Any]:
    """The tokens that once followed the last `size` - 1 tokens."""
    if len(tokens) < size:
        return tokens[:0]
    ends = np.arange(size - 1, len(tokens))
    for back in range(1, size):
        ends = ends[tokens[ends - back] == tokens[-back]]
    return tokens[ends]
