"""Bias on sequences of tokens: a sequence that is under way becomes more, less or no longer possible to complete."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import add_bias, ban

TokenIds = tuple[int, ...]


@register("sequence_bias")
@dataclass(frozen=True)
class SequenceBias(LogitsProcessor):
    """Logits with a number of one's own added for the last token of a sequence that is under way.

    Law: l_i becomes l_i + Σ b_s, over the sequences s that end with token i and whose tokens before it are the
    last ones there are, prompt included; for a sequence of one token that is always so. -inf makes the
    completion impossible. A bias on a long sequence acts only once its beginning was generated: give its
    beginnings one too if it is to be started.

    Source: Hugging Face transformers, `SequenceBiasLogitsProcessor`.

    Args:
        bias: sequence of token ids to bias, as a mapping or as pairs; finite numbers or -inf; at least one
            sequence, each once and with at least one token.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, SequenceBias, Vocabulary
        >>> bias, prompt = SequenceBias({(0, 2): 5.0}), Vocabulary(3).prompt([1])
        >>> bias(Candidates(np.array([1.0, 3.0, 2.0])), prompt + 0)
        Candidates({0: 1, 1: 3, 2: 7})
        >>> bias(Candidates(np.array([1.0, 3.0, 2.0])), prompt + 1)
        Candidates({0: 1, 1: 3, 2: 2})
        >>> str(bias)
        'sequence_bias:bias=[[[0,2],5.0]]'
    """

    bias: Mapping[TokenIds, float] | Iterable[tuple[Iterable[int], float]]

    def __post_init__(self) -> None:
        try:
            given = self.bias.items() if isinstance(self.bias, Mapping) else self.bias
            pairs = sorted((tuple(map(index, tokens)), float(value)) for tokens, value in given)
        except (TypeError, ValueError):
            pairs = []
        sequences = {tokens for tokens, _ in pairs}
        distinct, bounded = len(sequences) == len(pairs), all(value < math.inf for _, value in pairs)
        sound = distinct and bounded and _are_sequences(sequences)
        require(self, "bias", sound, "sequences of token ids, each once, with numbers below +inf, as {(5, 7): -2.0}")
        object.__setattr__(self, "bias", tuple(pairs))

    @cached_property
    def _endings(self) -> _Endings:
        return _Endings(dict(cast(tuple[tuple[TokenIds, float], ...], self.bias)))

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those that complete a sequence with other logits."""
        return add_bias(candidates, *self._endings.after(sequence))


@register("bad_words")
@dataclass(frozen=True)
class BadWords(LogitsProcessor):
    """No token that would complete one of the given sequences.

    Law: a token is impossible if it is the last of a given sequence whose tokens before it are the last ones
    there are, prompt included. A text has several spellings in tokens (with a space before it, say): each must be
    given.

    Source: Hugging Face transformers, `NoBadWordsLogitsProcessor` (which passes over a sequence that is an EOS
    token alone; here it is forbidden like any other).

    Args:
        sequences: sequences of token ids, at least one, each with at least one token; kept sorted, each once.

    Example:
        >>> import numpy as np
        >>> from ovdecode import BadWords, Candidates, Vocabulary
        >>> words, prompt = BadWords([[0, 1]]), Vocabulary(3).prompt([2])
        >>> row = Candidates(np.array([1.0, 3.0, 2.0]))
        >>> words(row, prompt + 0).argmax(), words(row, prompt + 2).argmax()
        (2, 1)
    """

    aliases = ("bad_words_ids",)

    sequences: Iterable[Iterable[int]]

    def __post_init__(self) -> None:
        try:
            sequences = sorted({tuple(map(index, tokens)) for tokens in self.sequences})
        except TypeError:
            sequences = []
        require(self, "sequences", _are_sequences(sequences), "sequences of token ids, such as [[5, 7], [9]]")
        object.__setattr__(self, "sequences", tuple(sequences))

    @cached_property
    def _endings(self) -> _Endings:
        return _Endings(dict.fromkeys(map(tuple, self.sequences), -math.inf))

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that complete no given sequence."""
        tokens, _ = self._endings.after(sequence)
        return ban(candidates, tokens)


def _are_sequences(sequences: Iterable[TokenIds]) -> bool:
    found = list(sequences)
    return bool(found) and all(tokens and min(tokens) >= 0 for tokens in found)


class _Endings:
    """Which tokens would complete a sequence: one look-up for each length, however many sequences there are."""

    def __init__(self, values: Mapping[TokenIds, float]) -> None:
        self.by_length: dict[int, dict[TokenIds, dict[int, float]]] = {}
        for (*beginning, last), value in values.items():
            endings = self.by_length.setdefault(len(beginning), {})
            endings.setdefault(tuple(beginning), {})[last] = value

    def after(self, sequence: Sequence) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The distinct tokens that complete something, and the sum of the values of what each completes."""
        sums: dict[int, float] = {}
        for length, endings in self.by_length.items():
            if length <= sequence.length:
                last = tuple(sequence.tokens[sequence.length - length :].tolist())
                for token, value in endings.get(last, {}).items():
                    sums[token] = sums.get(token, 0.0) + value
        return np.fromiter(sums, np.intp, len(sums)), np.fromiter(sums.values(), np.float64, len(sums))
