"""Repetition: how often one text says the same again.

Counted over token ids, figures need no tokenisation of their own and hold for any language and for code; counted over
words, they compare with papers that did so.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import ClassVar, Literal

from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result, TextMetric
from ovdecode.plugin import one_of, require
from ovdecode.registry import register

Of = Literal["tokens", "words"]
_WORD = re.compile(r"\w+|[^\w\s]+")


def items_of(result: Result, of: Of) -> Items[Hashable]:
    """A text's tokens, or its words: runs of letters and digits, and runs of other marks but white space."""
    return result.tokens if of == "tokens" else _WORD.findall(result.text)


def ngrams(items: Items[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All runs of n items, in order.

    Raises:
        ConfigurationError: for an n below 1.
    """
    if n < 1:
        raise ConfigurationError(f"`n` must be at least 1, got {n}")
    return [tuple(items[start : start + n]) for start in range(len(items) - n + 1)]


def distinct_n(tokens: Items[Hashable], n: int = 2) -> float:
    """The share of n-grams that are distinct: different n-grams / all n-grams; NaN for fewer than n tokens.

    Example:
        >>> distinct_n([7, 8, 7, 8, 9], n=2)  # 78, 87, 78, 89
        0.75
    """
    found = ngrams(tokens, n)
    return len(set(found)) / len(found) if found else math.nan


def repetition(tokens: Items[Hashable], n: int = 4) -> float:
    """The share of n-grams that occurred before in the same text; NaN for fewer than n tokens.

    Example:
        >>> repetition([1, 2, 3, 1, 2, 1], n=2)  # 12, 23, 31, 12, 21: of five, one came before
        0.2
    """
    found = ngrams(tokens, n)
    return (len(found) - len(set(found))) / len(found) if found else math.nan


@register("distinct_n")
@dataclass(frozen=True)
class DistinctN(TextMetric):
    """Distinct-n of one text: the share of its n-grams that are distinct.

    Law: different n-grams / all n-grams, so 1 for a text that repeats none; NaN for fewer than n items. It falls with
    length: compare texts of equal length.

    Source: Li, Galley, Brockett, Gao, Dolan 2016, "A Diversity-Promoting Objective Function for Neural
    Conversation Models", arXiv:1510.03055, who count over all texts together (`corpus_distinct_n`) and divide
    by the number of tokens; the number of n-grams is the usual divisor today.

    Args:
        n: length of the n-grams; at least 1.
        of: `tokens` or `words`.

    Example:
        >>> from ovdecode import DistinctN
        >>> from ovdecode.metric import Result
        >>> DistinctN(n=2)(Result("", tokens=(7, 8, 7, 8, 9))), DistinctN(n=1, of="words")(Result("so, so"))
        (0.75, 0.6666666666666666)
    """

    higher_is_better: ClassVar[bool | None] = True
    of_diversity: ClassVar[bool] = True
    n: int = 2
    of: Of = "tokens"

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        one_of("of", self.of, Of)

    def __call__(self, result: Result) -> float:
        """Different n-grams / all n-grams."""
        return distinct_n(items_of(result, self.of), self.n)


@register("rep_n")
@dataclass(frozen=True)
class RepN(TextMetric):
    """Rep-n: the share of n-grams that occurred before in the same text.

    Law: 1 - different n-grams / all n-grams: 0 for no repetition, towards 1 for a loop; NaN for fewer than n items.

    Source: Welleck, Kulikov, Roller, Dinan, Cho, Weston 2020, "Neural Text Generation with Unlikelihood
    Training", arXiv:1908.04319 (seq-rep-n, with n = 4); rep-n of Su et al. 2022, "A Contrastive Framework for
    Neural Text Generation", arXiv:2202.06417, is that in per cent.

    Args:
        n: length of the n-grams; at least 1.
        of: `tokens` or `words`.

    Example:
        >>> from ovdecode import RepN
        >>> from ovdecode.metric import Result
        >>> RepN(n=2)(Result("", tokens=(1, 2, 3, 1, 2, 1)))
        0.2
    """

    higher_is_better: ClassVar[bool | None] = False
    of_diversity: ClassVar[bool] = True
    n: int = 4
    of: Of = "tokens"

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        one_of("of", self.of, Of)

    def __call__(self, result: Result) -> float:
        """Repeated n-grams / all n-grams."""
        return repetition(items_of(result, self.of), self.n)


@register("loop_rate")
@dataclass(frozen=True)
class LoopRate(TextMetric):
    """Whether a text ends in a loop: 1 or 0, so that the mean over texts is the rate.

    Law: for every period up to `max_period`, count how often the last that many tokens stand at the end, one
    after another. The period with the most repeats, the shortest of equals, is the loop; it counts if it came at least
    twice and has 3 tokens or more, or if it came more than 50 times. An end token is left out.

    Source: Holtzman, Buys, Du, Forbes, Choi 2020, "The Curious Case of Neural Text Degeneration",
    arXiv:1904.09751: the column "Repetition %" of table 1, as their `metrics/repetition.py` computes it.

    Args:
        max_period: the longest loop looked for, in tokens; at least 1.

    Example:
        >>> from ovdecode import LoopRate
        >>> from ovdecode.metric import Result
        >>> [LoopRate()(Result("", tokens)) for tokens in [(5, 1, 2, 3, 1, 2, 3), (1, 2, 3, 1, 2, 3, 5)]]
        [1.0, 0.0]
    """

    higher_is_better: ClassVar[bool | None] = False
    of_diversity: ClassVar[bool] = True
    max_period: int = 90

    def __post_init__(self) -> None:
        require(self, "max_period", self.max_period >= 1, "a whole number of at least 1")

    def __call__(self, result: Result) -> float:
        """1 for a loop, 0 for none, NaN for an empty text."""
        tokens = result.tokens[:-1] if result.stop == "eos" else result.tokens
        if not tokens:
            return math.nan
        periods = range(1, min(self.max_period, len(tokens)) + 1)
        period = max(periods, key=lambda each: _repeats(tokens, each))
        repeats = _repeats(tokens, period)
        return float(repeats > 1 and (period >= 3 or repeats > 50))


def _repeats(tokens: tuple[int, ...], period: int) -> int:
    """How often the last `period` tokens stand at the end, one after another; at least once."""
    repeats = 1
    end = len(tokens) - period
    while end >= period and tokens[end - period : end] == tokens[-period:]:
        repeats, end = repeats + 1, end - period
    return repeats


@register("compression_ratio")
@dataclass(frozen=True)
class CompressionRatio(TextMetric):
    """How many times smaller compression makes a text; more for one that repeats itself.

    Law: bytes of the text in UTF-8 / bytes that zlib makes of them at its default level; NaN for an empty text. About
    10 bytes are zlib's own, so that a short text has less than 1; compare texts of equal length.

    Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision",
    arXiv:2212.04356 (above 2.4, Whisper takes a text for a loop); of many texts together in Shaib et al. 2024,
    "Standardizing the Measurement of Text Diversity", arXiv:2403.00553.

    Example:
        >>> from ovdecode import CompressionRatio
        >>> from ovdecode.metric import Result
        >>> CompressionRatio()(Result("no more " * 50)) > 10 > CompressionRatio()(Result("The quick brown fox."))
        True
    """

    higher_is_better: ClassVar[bool | None] = False
    of_diversity: ClassVar[bool] = True

    def __call__(self, result: Result) -> float:
        """Bytes before / bytes after."""
        data = result.text.encode("utf-8", "surrogatepass")
        return len(data) / len(zlib.compress(data)) if data else math.nan
