"""References: how near a text comes to one that would have been right. NaN for a text without a reference."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from math import isinf, nan
from typing import Any, ClassVar

from ovdecode.extras import from_extra
from ovdecode.metric import Result, SetMetric, TextMetric
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.strategies.metrics.repetition import ngrams


@dataclass(frozen=True)
class _Scored(TextMetric):
    """A text's best score among those with each of its references."""

    higher_is_better: ClassVar[bool | None] = True

    def __call__(self, result: Result) -> float:
        """The best score; NaN without a reference."""
        return max((self.score(result.text, reference) for reference in result.references), default=nan)

    @abstractmethod
    def score(self, text: str, reference: str) -> float:
        """The score of a text by one reference."""


@register("exact_match")
@dataclass(frozen=True)
class ExactMatch(_Scored):
    """Whether a text is one of its references: 1 or 0.

    Law: 1 if it is equal to a reference, where every run of white space counts as one space and none counts at the
    ends.

    Source: Rajpurkar, Zhang, Lopyrev, Liang 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of
    Text", arXiv:1606.05250, who also leave out case, punctuation and articles.

    Args:
        ignore_case: take upper and lower case for the same.
        ignore_punctuation: leave out what is neither letter, digit, underscore nor white space.

    Example:
        >>> from ovdecode import ExactMatch
        >>> from ovdecode.metric import Result
        >>> answer = Result(" paris.", references=("Paris", "Paris, France"))
        >>> ExactMatch()(answer), ExactMatch(ignore_case=True, ignore_punctuation=True)(answer)
        (0.0, 1.0)
    """

    ignore_case: bool = False
    ignore_punctuation: bool = False

    def score(self, text: str, reference: str) -> float:
        """1 if they are equal."""
        return float(self._plain(text) == self._plain(reference))

    def _plain(self, text: str) -> str:
        if self.ignore_punctuation:
            text = re.sub(r"[^\w\s]", "", text)
        return " ".join((text.casefold() if self.ignore_case else text).split())


@register("rouge")
@dataclass(frozen=True)
class Rouge(_Scored):
    """ROUGE: F1 of what a text and its reference have in common, n-grams or a subsequence of words; from 0 to 1.

    Law: words are runs of a-z and 0-9 in the text in lower case, so that it is for English. For `rouge1`,
    `rouge2`, ..., m is the number of n-grams that both have, each as often as it is in both, and c and r those of
    the text and the reference; for `rougeL`, m is the length of the longest common subsequence, and c and r the
    numbers of words. The score is 2 m / (c + r), or 0 if m is; of several references the best counts.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; as Google's `rouge-score`
    computes it, without its stemmer.

    Args:
        rouge_type: `rouge1` to `rouge9`, or `rougeL`.

    Example:
        >>> from ovdecode import Rouge
        >>> from ovdecode.metric import Result
        >>> result = Result("the cat sat", references=("The cat, it sat!",))
        >>> [round(Rouge(kind)(result), 3) for kind in ("rouge1", "rouge2", "rougeL")]  # 3 of 3 and 4, 1 of 2 and 3, 3
        [0.857, 0.4, 0.857]
    """

    rouge_type: str = "rougeL"

    def __post_init__(self) -> None:
        known = re.fullmatch("rouge[1-9L]", self.rouge_type) is not None
        require(self, "rouge_type", known, "rouge1 to rouge9, or rougeL")

    def score(self, text: str, reference: str) -> float:
        """F1 of two texts."""
        ours, theirs = (re.findall("[a-z0-9]+", each.lower()) for each in (text, reference))
        if self.rouge_type == "rougeL":
            common, total = _common_subsequence(ours, theirs), len(ours) + len(theirs)
        else:
            one, other = (Counter(ngrams(words, int(self.rouge_type[-1]))) for words in (ours, theirs))
            common, total = (one & other).total(), one.total() + other.total()
        return 2 * common / total if common else 0.0


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence: a row of the table of dynamic programming is the bits of a number.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for index, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << index
    all_ones = (1 << len(one)) - 1
    row = all_ones
    for word in other:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & all_ones
    return len(one) - row.bit_count()


@dataclass(frozen=True)
class _Sacrebleu(TextMetric):
    """A score of sacrebleu, of one text with all of its references at once."""

    higher_is_better: ClassVar[bool | None] = True

    @abstractmethod
    def scorer(self, *, corpus: bool = False) -> Any:
        """The metric object of sacrebleu, for one text or for a corpus."""

    @cached_property
    def _one(self) -> Any:
        return self.scorer()

    def __call__(self, result: Result) -> float:
        """The score, from 0 to 100; NaN without a reference."""
        return float(self._one.sentence_score(result.text, list(result.references)).score) if result.references else nan


@register("chrf")
@dataclass(frozen=True)
class ChrfScore(_Sacrebleu):
    """chrF of a text: F-score over character n-grams; from 0 to 100.

    Law: sacrebleu's `sentence_chrf`; of several references the best counts. Over many texts it is
    `corpus_score:metric=(chrf)`.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; chrF++ by Popović 2017; Post
    2018, "A Call for Clarity in Reporting BLEU Scores", arXiv:1804.08771 (sacrebleu, which must be installed).

    Args:
        char_order: longest n-gram of characters; at least 1.
        word_order: longest n-gram of words; 0 for chrF, 2 for chrF++.
        beta: weight of recall against precision; above 0.

    Example:
        >>> from ovdecode import ChrfScore
        >>> from ovdecode.metric import Result
        >>> result = Result("a b c", references=("xyz", "abd"))
        >>> round(ChrfScore(char_order=2)(result), 1)  # 2 of 3 letters, 1 of 2 pairs
        58.3
    """

    char_order: int = 6
    word_order: int = 0
    beta: float = 2.0

    def __post_init__(self) -> None:
        require(self, "char_order", self.char_order >= 1, "a whole number of at least 1")
        require(self, "word_order", self.word_order >= 0, "a whole number of at least 0")
        require(self, "beta", self.beta > 0 and not isinf(self.beta), "above 0 and finite")

    def scorer(self, *, corpus: bool = False) -> Any:
        """sacrebleu's CHRF."""
        return from_extra("metrics", "sacrebleu.metrics.chrf", "`chrf`").CHRF(
            char_order=self.char_order, word_order=self.word_order, beta=self.beta
        )


@register("bleu")
@dataclass(frozen=True)
class BleuScore(_Sacrebleu):
    """BLEU of a text; from 0 to 100.

    Law: sacrebleu's `sentence_bleu`: smoothing `exp` and effective order, with all references at once. BLEU is made
    for many texts, for which it is `corpus_score:metric=(bleu)`.

    Source: Papineni, Roukos, Ward, Zhu 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation";
    Post 2018, "A Call for Clarity in Reporting BLEU Scores", arXiv:1804.08771 (sacrebleu, which must be
    installed).

    Args:
        tokenize: the name of a tokeniser of sacrebleu, such as `char` or `zh`.
        lowercase: take upper and lower case for the same.

    Example:
        >>> from ovdecode import BleuScore
        >>> from ovdecode.metric import Result
        >>> round(BleuScore()(Result("The cat sat down.", references=("The cat lay down.",))), 1)
        30.2
    """

    tokenize: str = "13a"
    lowercase: bool = False

    def scorer(self, *, corpus: bool = False) -> Any:
        """sacrebleu's BLEU."""
        kind = from_extra("metrics", "sacrebleu.metrics.bleu", "`bleu`").BLEU
        require(self, "tokenize", self.tokenize in kind.TOKENIZERS, f"one of {', '.join(kind.TOKENIZERS)}")
        return kind(lowercase=self.lowercase, tokenize=self.tokenize, effective_order=not corpus)


@register("corpus_score")
@dataclass(frozen=True)
class CorpusScore(SetMetric):
    """BLEU or chrF of many texts together: what papers print.

    Law: n-grams, matches and lengths are summed over all texts before the score is made of them, as sacrebleu's
    `corpus_bleu` and `corpus_chrf` do; texts without a reference are left out.

    Source: Papineni, Roukos, Ward, Zhu 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation";
    Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; Post 2018, arXiv:1804.08771.

    Args:
        metric: `bleu` or `chrf`, with their parameters.

    Example:
        >>> from ovdecode import ChrfScore, CorpusScore
        >>> from ovdecode.metric import Result
        >>> texts = [Result("ab", references=("ab",)), Result("cd", references=("ce",))]
        >>> round(CorpusScore(ChrfScore(char_order=1))(texts))  # 3 of 4 letters
        75
    """

    higher_is_better: ClassVar[bool | None] = True
    metric: BleuScore | ChrfScore = BleuScore()

    def __call__(self, results: Items[Result]) -> float:
        """The score, from 0 to 100; NaN without references."""
        known = [result for result in results if result.references]
        if not known:
            return nan
        columns = list(zip_longest(*(result.references for result in known)))  # None: this text has no further one
        return float(self.metric.scorer(corpus=True).corpus_score([result.text for result in known], columns).score)
