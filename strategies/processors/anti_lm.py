"""Penalties by a language model of the text so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence


@register("fsd")
@dataclass(frozen=True)
class FSD(LogitsProcessor):
    """Probabilities, less those of an n-gram model of the text so far: what it says again is held back.

    Law: of the `top_k` most probable tokens, the new logits are (1 − alpha) · p − alpha · q; greedy decoding
    of them is Frustratingly Simple Decoding. q comes from counts over prompt and generated text. The longest
    context of n − 1 tokens first, a context that the token has followed gives it the share `beta` of the
    weight that is left, times its relative frequency there, and leaves the rest of the weight to the contexts
    that are shorter; one that it has not followed leaves all. The empty context takes all that is left.
    Source: Yang et al. 2023, "A Frustratingly Simple Decoding Method for Neural Text Generation"
    (arXiv:2305.12675) with its n-gram model; counts, smoothing and defaults as in its authors' code.

    The new logits lie between −1 and 1: to sample from them, a temperature far below 1 should follow.

    Args:
        alpha: weight of the n-gram model; between 0 and 1.
        top_k: how many tokens stay; at least 1.
        n: tokens in the longest n-gram; at least 1.
        beta: the share of a context longer than none; 0 < beta <= 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, FSD, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0, 1]) + [0, 1, 0]
        >>> FSD(n=2)(Candidates(np.log([0.1, 0.5, 0.4])), sequence).argmax()
        2
    """

    alpha: float = 0.4
    top_k: int = 3
    n: int = 3
    beta: float = 0.9

    def __post_init__(self) -> None:
        require(self, "alpha", 0 <= self.alpha <= 1, "between 0 and 1")
        require(self, "top_k", self.top_k >= 1, "at least 1")
        require(self, "n", self.n >= 1, "at least 1")
        require(self, "beta", 0 < self.beta <= 1, "above 0 and at most 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The best tokens, held back as far as they repeat."""
        best = candidates.top(self.top_k).possible
        probable = candidates.probabilities_of(best.ids)
        said_again = self._said_again(sequence.tokens, best.ids).astype(probable.dtype)
        return best.with_logits((1 - self.alpha) * probable - self.alpha * said_again)

    def _said_again(self, text: NDArray[np.int64], tokens: NDArray[np.intp]) -> NDArray[np.float64]:
        """The n-gram model's probability of each token after the text, shape (tokens,)."""
        total, left = np.zeros(len(tokens)), np.ones(len(tokens))
        words, *after_context = _followers(text, self.n - 1)
        for followers in reversed(after_context):
            counts = (followers[:, None] == tokens).sum(axis=0)
            # The context occurs once more than something follows it: at the end of the text.
            total += left * (self.beta * counts / (len(followers) + 1))
            left *= np.where(counts > 0, 1 - self.beta, 1.0)
        counts = (words[:, None] == tokens).sum(axis=0)
        total += left * (counts / max(len(words), 1))
        return total


def _followers(text: NDArray[np.int64], longest: int) -> list[NDArray[np.int64]]:
    """The tokens that follow earlier occurrences of the last 0, 1, ... `longest` tokens of a text."""
    ends, followers = np.arange(len(text)), [text]
    for length in range(1, min(longest, len(text) - 1) + 1):
        ends = ends[ends >= length]
        ends = ends[text[ends - length] == text[-length]]
        followers.append(text[ends])
    return followers
