"""How repetitive a sequence of tokens is: figures that need nothing but the tokens.

They are counted over token ids rather than words, so that they need no tokenisation of their own and hold
for any language and for code.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from collections.abc import Sequence as Items

from ovdecode.errors import ConfigurationError


def distinct_n(tokens: Items[Hashable], n: int = 2) -> float:
    """The share of n-grams that are distinct: different n-grams / all n-grams; between 0 and 1.

    NaN for fewer than n tokens, which have no n-gram. It falls with length: compare texts of equal length.
    Source: Li, Galley, Brockett, Gao, Dolan 2016, "A Diversity-Promoting Objective Function for Neural
    Conversation Models", arXiv:1510.03055, who divide by the number of tokens; the number of n-grams is the
    usual divisor today, and the one for which a text without repetition has the value 1.

    Args:
        tokens: token ids, or words.
        n: length of the n-grams; at least 1.

    Example:
        >>> distinct_n([7, 8, 7, 8, 9], n=2)  # 78, 87, 78, 89
        0.75
    """
    ngrams = _ngrams(tokens, n)
    return len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def repetition(tokens: Items[Hashable], n: int = 4) -> float:
    """The share of n-grams that occurred before in the same text; 0 for none, towards 1 for a loop.

    NaN for fewer than n tokens.
    Source: Welleck, Kulikov, Roller, Dinan, Cho, Weston 2020, "Neural Text Generation with Unlikelihood
    Training", arXiv:1908.04319 (seq-rep-n, with n = 4); rep-n of Su et al. 2022, arXiv:2202.06417, is that
    in per cent.

    Args:
        tokens: token ids, or words.
        n: length of the n-grams; at least 1.

    Example:
        >>> repetition([1, 2, 3, 1, 2, 1], n=2)  # 12, 23, 31, 12, 21: of five, one came before
        0.2
    """
    ngrams = _ngrams(tokens, n)
    return (len(ngrams) - len(set(ngrams))) / len(ngrams) if ngrams else math.nan


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are numbers; NaN if none is.

    Example:
        >>> mean([1.0, float("nan"), 3.0])
        2.0
    """
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _ngrams(tokens: Items[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise ConfigurationError(f"`n` must be at least 1, got {n}")
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
