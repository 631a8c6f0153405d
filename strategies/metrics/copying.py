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


def _longest_common(text: Items[Hashable], source: Items[Hashable]) -> int:
    """The length of the longest common substring, in time linear in both lengths.

    Each state of the automaton is a set of substrings of the source that end at the same places: the longest has
    `lengths[state]` items, and the longest that ends at further places is in `links[state]`.

    Source: Blumer et al. 1985, "The smallest automaton recognizing the subwords of a text".
    """
    after: list[dict[Hashable, int]] = [{}]
    lengths, links = [0], [-1]
    last = 0
    for item in source:
        state, at = len(after), last
        after.append({})
        lengths.append(lengths[last] + 1)
        links.append(0)
        while at >= 0 and item not in after[at]:
            after[at][item] = state
            at = links[at]
        if at >= 0:
            near = after[at][item]
            if lengths[near] == lengths[at] + 1:
                links[state] = near
            else:  # its shorter substrings end at one place more than the longer ones now: they become a state
                shorter = len(after)
                after.append(dict(after[near]))
                lengths.append(lengths[at] + 1)
                links.append(links[near])
                while at >= 0 and after[at].get(item) == near:
                    after[at][item] = shorter
                    at = links[at]
                links[near] = links[state] = shorter
        last = state

    longest = state = length = 0
    for item in text:
        while state and item not in after[state]:
            state = links[state]
            length = lengths[state]
        if item in after[state]:
            state, length = after[state][item], length + 1
        longest = max(longest, length)
    return longest
