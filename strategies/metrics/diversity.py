"""Diversity: how much the texts of one method are like each other."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from math import exp, fsum, inf, log, nan
from typing import ClassVar

import numpy as np

from ovdecode.metric import Result, SetMetric
from ovdecode.plugin import one_of, require
from ovdecode.registry import register
from ovdecode.strategies.metrics.repetition import Of, items_of, ngrams

SMOOTHING = 0.1
"""What stands for the number of common n-grams where there are none: `method1` of nltk, which the papers used."""


@register("corpus_distinct_n")
@dataclass(frozen=True)
class CorpusDistinctN(SetMetric):
    """Distinct-n over many texts: the share of all their n-grams that are distinct.

    Law: different n-grams of all texts together / their number; no n-gram goes over the end of a text. It falls with
    the number of texts and their length: compare sets of equal size.

    Source: Li, Galley, Brockett, Gao, Dolan 2016, "A Diversity-Promoting Objective Function for Neural
    Conversation Models", arXiv:1510.03055, who divide by the number of tokens; the number of n-grams is the
    usual divisor today.

    Args:
        n: length of the n-grams; at least 1.
        of: `tokens` or `words`.

    Example:
        >>> from ovdecode import CorpusDistinctN
        >>> from ovdecode.metric import Result
        >>> CorpusDistinctN(n=2)([Result("", (1, 2, 3)), Result("", (1, 2))])  # 12, 23, 12
        0.6666666666666666
    """

    higher_is_better: ClassVar[bool | None] = True
    of_diversity: ClassVar[bool] = True
    n: int = 2
    of: Of = "tokens"

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        one_of("of", self.of, Of)

    def __call__(self, results: Items[Result]) -> float:
        """Different n-grams / all n-grams; NaN if there is none."""
        counts = Counter(ngram for result in results for ngram in ngrams(items_of(result, self.of), self.n))
        return len(counts) / counts.total() if counts else nan


@register("self_bleu")
@dataclass(frozen=True)
class SelfBleu(SetMetric):
    """Self-BLEU: how much each text is made of what the others say; 1 for texts that are all the same.

    Law: the mean over texts of the BLEU of that text with all others as its references: the brevity penalty,
    with the nearest length among the others (the shorter of equals), times the geometric mean for k = 1 to n of
    the share of its k-grams that are in one other text as often. A share of none counts as 0.1 k-grams; no
    common word at all is 0. The texts' k-grams are counted once, so the cost is linear in the number of texts.

    Source: Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models", arXiv:1802.01886,
    as nltk's `sentence_bleu` with smoothing `method1` computes it; of BPE tokens, as here by default, and with
    n = 4 in Holtzman et al. 2020, arXiv:1904.09751 (who draw 1,000 texts of 5,000 to be compared with all).

    Args:
        n: longest n-grams; at least 1.
        of: `tokens` or `words`.

    Example:
        >>> from ovdecode import SelfBleu
        >>> from ovdecode.metric import Result
        >>> same, other = Result("", (1, 2, 3, 4)), Result("", (5, 6, 7, 8))
        >>> round(SelfBleu()([same, same]), 6), round(SelfBleu()([same, other]), 6)
        (1.0, 0.0)
    """

    higher_is_better: ClassVar[bool | None] = False
    of_diversity: ClassVar[bool] = True
    n: int = 4
    of: Of = "tokens"

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        one_of("of", self.of, Of)

    def __call__(self, results: Items[Result]) -> float:
        """The mean; NaN for fewer than two texts."""
        texts = [items_of(result, self.of) for result in results]
        if len(texts) < 2:
            return nan
        logs = np.zeros(len(texts))
        for order in range(1, self.n + 1):
            logs += [log(share) if share else -inf for share in _shares(texts, order)]
        precisions = np.exp(logs / self.n).tolist()
        penalties = _brevities([len(text) for text in texts])
        scores = [penalty * precision for penalty, precision in zip(penalties, precisions, strict=True)]
        return fsum(scores) / len(scores)


def _shares(texts: list[Items[Hashable]], order: int) -> list[float]:
    """Of each text, the share of its n-grams that one of the others has as often."""
    counts = [Counter(ngrams(text, order)) for text in texts]
    most: dict[Hashable, tuple[int, int]] = {}
    for count in counts:
        for ngram, times in count.items():
            first, second = most.get(ngram, (0, 0))
            most[ngram] = (times, first) if times > first else (first, max(second, times))
    shares = []
    for count in counts:
        common = 0
        for ngram, times in count.items():
            first, second = most[ngram]
            common += min(times, second if times == first else first)  # of several with `first`, `second` is the same
        shares.append(0.0 if order == 1 and not common else (common or SMOOTHING) / max(count.total(), 1))
    return shares


def _brevities(lengths: list[int]) -> list[float]:
    """Of each text, the brevity penalty by the length that is nearest among the others."""
    ordered = sorted(lengths)
    penalties = []
    for own in lengths:
        place = bisect_left(ordered, own)
        others = ordered[max(place - 1, 0) : place] + ordered[place + 1 : place + 2]
        nearest = min(others, key=lambda each: (abs(each - own), each))
        penalties.append(min(1.0, exp(1 - nearest / own)) if own else 0.0)
    return penalties


@register("zipf")
@dataclass(frozen=True)
class Zipf(SetMetric):
    """Zipf coefficient: how steeply the frequency of tokens falls with their rank; about 1 for what people write.

    Law: minus the slope of the least-squares line through (log rank, log count) of the `ranks` commonest
    tokens of all texts together; NaN for fewer than two different tokens.

    Source: Zipf 1949, "Human Behavior and the Principle of Least Effort"; of generated text in Holtzman et al.
    2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751, whose `metrics/zipf.py` takes 5,000 ranks.

    Args:
        ranks: how many of the commonest; at least 2.
        of: `tokens` or `words`.

    Example:
        >>> from ovdecode import Zipf
        >>> from ovdecode.metric import Result
        >>> round(Zipf()([Result("", (1,) * 12 + (2,) * 6), Result("", (3,) * 4 + (4,) * 3)]), 6)  # 12 / rank
        1.0
    """

    ranks: int = 5000
    of: Of = "tokens"

    def __post_init__(self) -> None:
        require(self, "ranks", self.ranks >= 2, "a whole number of at least 2")
        one_of("of", self.of, Of)

    def __call__(self, results: Items[Result]) -> float:
        """Minus the slope."""
        counts = Counter(item for result in results for item in items_of(result, self.of))
        commonest = sorted(counts.values(), reverse=True)[: self.ranks]
        if len(commonest) < 2:
            return nan
        x, y = np.log(np.arange(1, len(commonest) + 1)), np.log(commonest)
        x -= x.mean()
        return float(-(x @ y) / (x @ x))
