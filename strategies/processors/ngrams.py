"""Blocked n-grams: what would complete one that is there already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import ban


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

    aliases = ("no_repeat_ngram_size",)

    size: int

    def __post_init__(self) -> None:
        require(self, "size", self.size >= 1, "a whole number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that complete no n-gram seen before."""
        return ban_completions(candidates, sequence.tokens, sequence.tokens, self.size)


@register("encoder_no_repeat_ngram")
@dataclass(frozen=True)
class EncoderNoRepeatNgram(LogitsProcessor):
    """No token that would complete an n-gram of the prompt.

    Law: a token is impossible if the last size - 1 tokens, wherever they are, and it occur in that order in the
    prompt. A size of 1 forbids every token of the prompt. What was generated may repeat itself.

    Source: Hugging Face transformers, `EncoderNoRepeatNGramLogitsProcessor`; for a model without an encoder, the
    prompt takes the place of the encoder's input.

    Args:
        size: at least 1; 3 or 4 is usual.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, EncoderNoRepeatNgram, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0, 1]) + [2, 0]
        >>> EncoderNoRepeatNgram(2)(Candidates(np.array([1.0, 3.0, 2.0])), sequence).argmax()
        2
    """

    size: int

    def __post_init__(self) -> None:
        require(self, "size", self.size >= 1, "a whole number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that complete no n-gram of the prompt."""
        return ban_completions(candidates, sequence.tokens, sequence.tokens[: sequence.prompt_length], self.size)


def ban_completions(
    candidates: Candidates, tokens: NDArray[np.int64], text: NDArray[np.int64], size: int
) -> Candidates:
    """The candidates but for those that follow the last `size` - 1 tokens somewhere in a text."""
    if len(tokens) < size - 1:
        return candidates
    ends = np.arange(size - 1, len(text))
    for back in range(1, size):
        ends = ends[text[ends - back] == tokens[-back]]
    return ban(candidates, np.unique(text[ends]))
