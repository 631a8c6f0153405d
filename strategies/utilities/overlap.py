"""Overlap: utilities that count what two texts have in common, tokens, characters or words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovdecode.extras import from_extra
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.utility import Features, Utility

Counts: TypeAlias = Mapping[Any, float]
"""How often each n-gram occurs: whole numbers in a text, fractions in the mean of several."""


def _matches(candidate: Counts, reference: Counts) -> float:
    """How many n-grams of a candidate the reference has too, each as often as it is in both."""
    return sum(min(count, reference[ngram]) for ngram, count in candidate.items() if ngram in reference)


def _mean(counts: Items[Counts], weights: NDArray[np.float64]) -> Counts:
    """How often each n-gram is to be expected."""
    expected: dict[Hashable, float] = {}
    for each, weight in zip(counts, weights.tolist(), strict=True):
        for ngram, count in each.items():
            expected[ngram] = expected.get(ngram, 0.0) + weight * count
    return expected


def _ngrams(items: Items[Any], order: int) -> Counts:
    return Counter(items[start : start + order] for start in range(len(items) - order + 1))


@register("token_f1")
@dataclass(frozen=True)
class TokenF1(Utility):
    """Harmonic mean of precision and recall over the model's tokens, in any order; from 0 to 1.

    Law: 2 m / (c + r), where c and r are the numbers of tokens and m is that of common ones, each counted as
    often as it is in both; 1 if both texts are empty. Tokens that are markup, such as EOS, do not count.
    Aggregated, r and m are taken from the expected counts of the references.

    Source: Rajpurkar, Zhang, Lopyrev, Liang 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of
    Text", arXiv:1606.05250, who count words without punctuation and articles; tokens need no language.

    Example:
        >>> from ovdecode import TokenF1
        >>> TokenF1().compare({7: 2, 8: 1}, {7: 1, 9: 1})  # 7 7 8 and 7 9 have one 7 in common
        0.4
    """

    def features(self, texts: Items[str], sequences: Items[Sequence]) -> Features:
        """How often each token occurs."""
        yield from ()
        return [Counter(_plain_tokens(sequence)) for sequence in sequences]

    def compare(self, candidate: Counts, reference: Counts) -> float:
        """F1 of two bags of tokens."""
        total = sum(candidate.values()) + sum(reference.values())
        return 2 * _matches(candidate, reference) / total if total else 1.0

    def aggregate(self, references: Items[Counts], weights: NDArray[np.float64]) -> Counts:
        """Expected counts."""
        return _mean(references, weights)


def _plain_tokens(sequence: Sequence) -> list[int]:
    markup = sequence.vocabulary.spelling.special_ids | sequence.vocabulary.eos_token_ids
    return [token for token in sequence.generated.tolist() if token not in markup]


@register("chrf")
@dataclass(frozen=True)
class Chrf(Utility):
    """chrF: F-score over character n-grams, as sacrebleu computes it for a sentence; from 0 to 100.

    Law: white space is removed. For every n up to `char_order` for which both texts have n-grams, precision
    is the share of the candidate's n-grams that are common, recall that of the reference's; both are averaged
    over n to P and R, and the score is 100 (1 + β²) P R / (β² P + R), or 0. Aggregated, common n-grams and
    those of the reference are counted in the expected counts of the references: then the cost is linear in
    the number of texts, and the score is near the expected chrF, but not equal to it.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; aggregated by Vamvas
    and Sennrich 2024, "Linear-time Minimum Bayes Risk Decoding with Reference Aggregation", arXiv:2402.04251.

    Args:
        char_order: longest n-gram; at least 1.
        beta: weight of recall against precision; above 0.

    Example:
        >>> from ovdecode import Chrf
        >>> chrf = Chrf(char_order=2)
        >>> abc, abd = chrf.ngrams("a b c"), chrf.ngrams("abd")
        >>> round(chrf.compare(abc, abc)), round(chrf.compare(abc, abd), 1)  # 2 of 3 letters, 1 of 2 pairs
        (100, 58.3)
    """

    char_order: int = 6
    beta: float = 2.0

    def __post_init__(self) -> None:
        require(self, "char_order", self.char_order >= 1, "a whole number of at least 1")
        require(self, "beta", 0 < self.beta < float("inf"), "a finite number above 0")

    def features(self, texts: Items[str], sequences: Items[Sequence]) -> Features:
        """The n-grams of each text."""
        yield from ()
        return [self.ngrams(text) for text in texts]

    def ngrams(self, text: str) -> tuple[Counts, ...]:
        """How often each n-gram of characters occurs, for each n."""
        characters = "".join(text.split())
        return tuple(_ngrams(characters, order) for order in range(1, self.char_order + 1))

    def compare(self, candidate: tuple[Counts, ...], reference: tuple[Counts, ...]) -> float:
        """chrF of two texts, from their n-grams."""
        both = [(ours, theirs) for ours, theirs in zip(candidate, reference, strict=True) if ours and theirs]
        common = [_matches(ours, theirs) for ours, theirs in both]
        if not any(common):
            return 0.0
        precision = sum(m / sum(ours.values()) for m, (ours, _) in zip(common, both, strict=True)) / len(both)
        recall = sum(m / sum(theirs.values()) for m, (_, theirs) in zip(common, both, strict=True)) / len(both)
        factor = float(self.beta) ** 2
        return 100 * (1 + factor) * precision * recall / (factor * precision + recall)

    def aggregate(self, references: Items[tuple[Counts, ...]], weights: NDArray[np.float64]) -> tuple[Counts, ...]:
        """Expected counts, for each n."""
        return tuple(_mean(counts, weights) for counts in zip(*references, strict=True))


class Words(NamedTuple):
    """The n-grams of words of a text, by their order, and how many words it has."""

    ngrams: tuple[Counts, ...]
    length: float


@register("bleu")
@dataclass(frozen=True)
class Bleu(Utility):
    """BLEU of a sentence, as sacrebleu computes it (tokeniser, smoothing and effective order); from 0 to 100.

    Law: the brevity penalty times the geometric mean of the n-gram precisions for n up to 4, or up to the
    longest n-gram of the candidate; a precision of 0 is smoothed by sacrebleu's `exp`. Aggregated, common
    n-grams and the reference's length are expected values: then the cost is linear in the number of texts,
    and the score is near the expected BLEU, but not equal to it.

    Source: Papineni, Roukos, Ward, Zhu 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation";
    Post 2018, "A Call for Clarity in Reporting BLEU Scores", arXiv:1804.08771 (sacrebleu, which must be
    installed); aggregated by DeNero, Chiang, Knight 2009, "Fast Consensus Decoding over Translation Forests".

    Args:
        tokenize: the name of a tokeniser of sacrebleu, such as `char` or `zh`.

    Example:
        >>> from ovdecode import Bleu
        >>> bleu = Bleu()
        >>> same, other = bleu.words("The cat sat down."), bleu.words("The cat lay down.")
        >>> round(bleu.compare(same, same)), round(bleu.compare(same, other), 1)
        (100, 30.2)
    """

    tokenize: str = "13a"

    def features(self, texts: Items[str], sequences: Items[Sequence]) -> Features:
        """The n-grams of each text."""
        yield from ()
        return [self.words(text) for text in texts]

    def words(self, text: str) -> Words:
        """How often each n-gram of words occurs, for each n, and the number of words."""
        words = tuple(self._bleu.tokenizer(text.rstrip()).split())
        return Words(tuple(_ngrams(words, order) for order in range(1, self._bleu.max_ngram_order + 1)), len(words))

    def compare(self, candidate: Words, reference: Words) -> float:
        """BLEU of two texts, from their n-grams."""
        precision: float = self._bleu.compute_bleu(
            correct=[_matches(*each) for each in zip(candidate.ngrams, reference.ngrams, strict=True)],
            total=[sum(each.values()) for each in candidate.ngrams],
            sys_len=candidate.length,
            ref_len=candidate.length,  # that of an aggregate is no whole number, which sacrebleu wants
            smooth_method="exp",
            effective_order=True,
        ).score
        return precision * exp(min(0.0, 1 - reference.length / candidate.length)) if precision else 0.0

    def aggregate(self, references: Items[Words], weights: NDArray[np.float64]) -> Words:
        """Expected counts, for each n, and the expected number of words."""
        ngrams = zip(*(each.ngrams for each in references), strict=True)
        length = float(np.dot(weights, [each.length for each in references]))
        return Words(tuple(_mean(counts, weights) for counts in ngrams), length)

    @cached_property
    def _bleu(self) -> Any:
        bleu = from_extra("mbr", "sacrebleu.metrics.bleu", "`bleu`").BLEU
        require(self, "tokenize", self.tokenize in bleu.TOKENIZERS, f"one of {', '.join(bleu.TOKENIZERS)}")
        return bleu(tokenize=self.tokenize, effective_order=True)
