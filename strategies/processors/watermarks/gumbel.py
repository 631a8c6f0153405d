"""The Gumbel watermark: the randomness that picks a token is a keyed hash of the tokens before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma

from ovdecode.candidates import Candidates
from ovdecode.noise import GumbelNoise
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.watermarks.watermark import Detection, Watermark


@register("gumbel_watermark")
@dataclass(frozen=True)
class GumbelWatermark(Watermark):
    """One token, drawn by a keyed hash of the context in place of chance.

    Law: the token with the largest log(u_i) / p_i is left alone, where u_i, uniform on (0, 1), is made of keyed
    hashes of context and token i. Over random keys, each token is left with its own probability p_i, and whole
    texts are distributed as without the mark, because a context marks only once in a text: the second time, the
    candidates pass as they are, for the strategy to sample from. Put it last in a chain. For a given key a text
    without repeated contexts is the same for every seed: vary the key or the prompt, not the seed.

    Detector: the mean of -log(1 - u) over tokens with a new context; 1 is expected. The p-value is exact over
    random keys: the sum has a gamma distribution.

    Source: Aaronson 2022, "My AI Safety Lecture for UT Effective Altruism", https://scottaaronson.blog/?p=6823.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, GumbelWatermark, Vocabulary
        >>> row, prompt = Candidates(np.log([0.5, 0.25, 0.25])), Vocabulary(3).prompt([0, 1, 2, 0])
        >>> [GumbelWatermark(hashing_key=key)(row, prompt).argmax() for key in range(8)]
        [0, 0, 0, 0, 2, 0, 1, 1]
    """

    aliases = ("aaronson",)

    context_width: int = 4

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The one token that the hash picks; all candidates if the context is not new."""
        context = self.fresh_context(sequence)
        if context is None:
            return candidates
        best, _ = GumbelNoise(context).largest(candidates, 1)
        return candidates.at(best)

    def detect(self, sequence: Sequence) -> Detection:
        """The mean of -log(1 - u), and its probability without the mark; a repeated context counts once."""
        contexts, tokens = self.fresh(sequence)
        scores = -np.log(-np.expm1(-np.exp(-GumbelNoise(contexts).of(tokens))))
        if not len(scores):
            return Detection(np.nan, 1.0, 0)
        return Detection(float(scores.mean()), float(gamma.sf(scores.sum(), len(scores))), len(scores))
