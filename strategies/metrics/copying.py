"""Copying: how much of a text is taken over from its prompt, word for word."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from math import nan
from typing import Literal

from ovdecode.metric import Result, TextMetric
from ovdecode.plugin import one_of, require
from ovdecode.registry import register
from ovdecode.strategies.metrics.repetition import ngrams


@register("copied")
@dataclass(frozen=True)
class Copied(TextMetric):
    """The share of a text's n-grams of tokens that are in its prompt.

    Law: n-grams of the text that occur in the prompt / n-grams of the text, each as often as it is there; none goes
    over the border of the two. NaN for fewer than n tokens.

    Source: See, Liu, Manning 2017, "Get To The Point: Summarization with Pointer-Generator Networks",
    arXiv:1704.04368, who count the rest, the novel n-grams.

    Args:
        n: length of the n-grams; at least 1.

    Example:
        >>> from ovdecode import Copied
        >>> from ovdecode.metric import Result
        >>> Copied(n=2)(Result("", tokens=(1, 2, 3, 9, 1), prompt_tokens=(0, 1, 2, 3)))  # 12 and 23 of 12, 23, 39, 91
        0.5
    """

    n: int = 4

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")

    def __call__(self, result: Result) -> float:
        """Copied n-grams / all n-grams."""
        ours, theirs = ngrams(result.tokens, self.n), set(ngrams(result.prompt_tokens, self.n))
        return sum(ngram in theirs for ngram in ours) / len(ours) if ours else nan


@register("longest_copy")
@dataclass(frozen=True)
class LongestCopy(TextMetric):
    """The length of the longest passage that a text has in common with its prompt, word for word.

    Law: the length of their longest common substring, of tokens or of characters; 0 for an empty text.

    Source: Grusky, Naaman, Artzi 2018, "Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive
    Strategies", arXiv:1804.11283 (extractive fragments, of which this is the longest).

    Args:
        of: `tokens` or `characters`.

    Example:
        >>> from ovdecode import LongestCopy
        >>> from ovdecode.metric import Result
        >>> LongestCopy(of="characters")(Result("A black cat.", prompt="The black dog"))  # " black "
        7.0
    """

    of: Literal["tokens", "characters"] = "tokens"

    def __post_init__(self) -> None:
        one_of("of", self.of, Literal["tokens", "characters"])

    def __call__(self, result: Result) -> float:
        """The length."""
        if self.of == "tokens":
            return float(_longest_common(result.tokens, result.prompt_tokens))
        return float(_longest_common(result.text, result.prompt))


def _longest_common(one: Items[Hashable], other: Items[Hashable]) -> int:
    """The length of the longest common substring, by bisection: where there is one, there are all shorter ones."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if set(ngrams(one, middle)).isdisjoint(ngrams(other, middle)):
            high = middle - 1
        else:
            low = middle
    return low
