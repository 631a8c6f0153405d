"""Bias: what is added to single tokens, and which tokens are possible at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence


@register("logit_bias")
@dataclass(frozen=True)
class LogitBias(LogitsProcessor):
    """Logits with a number of one's own added for some tokens.

    Law: l_i becomes l_i + b_i, where the bias names token i; -inf makes it impossible. Tokens that are no
    longer candidates, or not in the vocabulary, are passed over.

    Source: OpenAI 2021, API reference, parameter `logit_bias`.

    Args:
        bias: token id to bias, as a mapping or as pairs; finite numbers or -inf; at least one, each token
            once.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, LogitBias, Vocabulary
        >>> bias = LogitBias({2: 5.0})
        >>> bias(Candidates(np.array([1.0, 3.0, 2.0])), Vocabulary(3).root)
        Candidates({0: 1, 1: 3, 2: 7})
        >>> str(bias)
        'logit_bias:bias=[[2,5.0]]'
    """

    bias: Mapping[int, float] | Iterable[tuple[int, float]]

    def __post_init__(self) -> None:
        try:
            given = self.bias.items() if isinstance(self.bias, Mapping) else self.bias
            pairs = sorted((index(token), float(value)) for token, value in given)
        except (TypeError, ValueError):
            pairs = []
        tokens = {token for token, _ in pairs}
        sound = len(tokens) == len(pairs) > 0 and min(tokens) >= 0 and all(value < math.inf for _, value in pairs)
        require(self, "bias", sound, "token ids, each once, with numbers below +inf, such as {5: -2.0}")
        object.__setattr__(self, "bias", tuple(pairs))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        tokens, values = zip(*self.bias, strict=True)
        return np.array(tokens, np.intp), np.array(values)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, some with other logits."""
        return add_bias(candidates, *self._arrays)


@dataclass(frozen=True)
class TokenSet(LogitsProcessor):
    """A processor of one set of tokens.

    Args:
        tokens: token ids, at least one; kept sorted, each once.
    """

    tokens: Iterable[int]

    def __post_init__(self) -> None:
        sort_tokens(self, self.tokens)

    @cached_property
    def ids(self) -> NDArray[np.intp]:
        """The tokens, shape (tokens,)."""
        return np.array(self.tokens, np.intp)


@register("allowed_tokens")
@dataclass(frozen=True)
class AllowedTokens(TokenSet):
    """Only the given tokens.

    Law: every other token is removed. If none of them is a candidate, nothing is left possible, and decoding
    ends with a `LogitsError` that says so. Add the EOS token if the text may end.

    Source: De Cao, Izacard, Riedel, Petroni 2021, "Autoregressive Entity Retrieval", arXiv:2010.00904, with a set
    for each prefix (Hugging Face transformers' `prefix_allowed_tokens_fn`).

    Example:
        >>> import numpy as np
        >>> from ovdecode import AllowedTokens, Candidates, Vocabulary
        >>> AllowedTokens([2, 0])(Candidates(np.array([1.0, 3.0, 2.0])), Vocabulary(3).root)
        Candidates({0: 1, 2: 2})
    """

    aliases = ("prefix_allowed_tokens_fn",)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """Those of the candidates that are allowed."""
        return candidates.only(self.ids)


@register("suppressed_tokens")
@dataclass(frozen=True)
class SuppressedTokens(TokenSet):
    """All but the given tokens.

    Law: the given tokens become impossible (a logit of -inf, or removed once the candidates have been
    narrowed).

    Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision" (Whisper's
    `suppress_tokens`), arXiv:2212.04356.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, SuppressedTokens, Vocabulary
        >>> SuppressedTokens([1])(Candidates(np.array([1.0, 3.0, 2.0])), Vocabulary(3).root).argmax()
        2
    """

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that are not suppressed."""
        return ban(candidates, self.ids)


def ban(candidates: Candidates, tokens: NDArray[Any]) -> Candidates:
    """The candidates but for the given distinct tokens: -inf in a dense row, taken out of a narrower one.

    Taking one token out of a dense row would copy its 50,000 ids too, and make every later stage slower.
    """
    if not len(tokens):
        return candidates
    if not candidates.dense:
        return candidates.without(tokens)
    return candidates.replaced(candidates.positions(tokens), -np.inf)


def add_bias(candidates: Candidates, tokens: NDArray[Any], values: NDArray[np.float64]) -> Candidates:
    """The candidates, with values added to the logits of the given distinct tokens."""
    if not len(tokens):
        return candidates
    places = candidates.positions(tokens)
    return candidates.replaced(places, candidates.logits[places] + values[np.isin(tokens, candidates.tokens(places))])


def sort_tokens(processor: LogitsProcessor, given: Iterable[int]) -> None:
    """Put a processor's parameter `tokens` in order, each id once, or say what it must be."""
    try:
        tokens = tuple(sorted({index(token) for token in given}))
    except TypeError:
        tokens = ()
    require(processor, "tokens", bool(tokens) and tokens[0] >= 0, "one or more token ids, such as [5, 7]")
    object.__setattr__(processor, "tokens", tokens)
