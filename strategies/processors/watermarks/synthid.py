"""The tournament watermark: tokens play each other in layers, and the keyed hash decides who wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from ovdecode.candidates import Candidates
from ovdecode.hashing import Hashes, absorb
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.watermarks.watermark import Detection, Watermark

_TOGETHER, _FEW = 10, 2048
"""Layers that are played at once: so many that there are far fewer kinds of tokens than tokens. Up to 2,048 tokens play
one layer after the other in less time."""


@register("synthid_watermark")
@dataclass(frozen=True)
class SynthIdWatermark(Watermark):
    """SynthID's tournament: the distribution of the winner among 2^depth draws that play each other in layers.

    Law: in each layer, two independent draws meet, the one with the higher g (a bit of the keyed hash of context and
    token) wins, and a coin decides a draw: p_i becomes p_i · (1 + g_i - Σ g_j p_j), layer after layer. Averaged over
    the keys, this is the model's own distribution; so is that of a whole text, because a context marks only once in
    a text. Put it last in a chain, and use a strategy that samples.

    Detector: the mean of g over tokens with a new context and layers; 1/2 is expected. The p-value is exact
    over random keys: the sum is binomial. (The paper's Bayesian detector finds more, but must be trained.)

    Source: Dathathri et al. 2024, "Scalable watermarking for identifying large language model outputs", Nature 634
    (the non-distortionary tournament of two). transformers has
    the same law with another hash, so neither finds the other's mark: `synthid_watermark_hf` is its.

    Args:
        depth: number of layers, from 1 to 64; the paper has 30.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, SynthIdWatermark, Vocabulary
        >>> mark, row = SynthIdWatermark(hashing_key=2, depth=1), Candidates(np.log([0.5, 0.25, 0.25]))
        >>> mark(row, Vocabulary(3).prompt([0, 1, 2, 0])).probabilities
        array([0.75 , 0.125, 0.125])
    """

    context_width: int = 4
    depth: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "depth", 1 <= self.depth <= 64, "a whole number from 1 to 64")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, with the logits of the winner's distribution."""
        context = self.fresh_context(sequence)
        if context is None:
            return candidates
        hashes = absorb(context, candidates.ids)
        probabilities = candidates.weights.astype(np.float64)
        probabilities /= probabilities.sum()
        for first in range(0, self.depth, _TOGETHER):
            layers = min(_TOGETHER, self.depth - first)
            kinds = self.kinds(hashes, first, layers)
            if len(kinds) > _FEW:
                probabilities *= _growth(np.bincount(kinds, probabilities, 2**layers).astype(np.float64), layers)[kinds]
                continue
            play(probabilities, (kinds >> np.arange(layers)[::-1, None] & 1).astype(np.float64))
        return candidates.with_weights(probabilities)

    def detect(self, sequence: Sequence) -> Detection:
        """The mean of g, and its probability without the mark; a repeated context counts once."""
        hashes = absorb(*self.fresh(sequence))
        total = len(hashes) * self.depth
        wins = sum(int(self.kinds(hashes, layer, 1).sum()) for layer in range(self.depth))
        score = wins / total if total else np.nan
        return Detection(score, float(binom.sf(wins - 1, total, 0.5)), len(hashes))

    def kinds(self, hashes: Hashes, first: int, layers: int) -> NDArray[np.intp]:
        """Each token's g in some layers as one number, shape (n,): bits of its hash, the highest in layer 0."""
        bits = hashes >> np.uint64(64 - first - layers)
        bits &= np.uint64(2**layers - 1)
        kinds: NDArray[np.intp] = bits.view(np.intp)
        return kinds


def play(probabilities: NDArray[np.float64], wins: NDArray[np.float64]) -> None:
    """Change probabilities in place, shape (n,), as layers do in which tokens have these g, shape (layers, n)."""
    for won, lost in zip(wins, 1 - wins, strict=True):
        probabilities *= won + lost.dot(probabilities)  # 1 + g - Σ g p, with no digits lost where it is small


def _growth(masses: NDArray[np.float64], layers: int) -> NDArray[np.float64]:
    """How the probability of each kind of token changes in some layers: the product of all 1 + g - Σ g p.

    Tokens with the same g in all of these layers are as one.

    Args:
        masses: the probability of each kind, shape (2 ** layers,); the first layer's g is the highest bit.
    """
    growth = np.ones(1)
    for _ in range(layers):
        half = len(masses) // 2
        lost, won = masses[:half], masses[half:]
        share = lost.sum()  # 1 - Σ g p, with no digits lost where it is small
        growth = (growth[:, None] * np.array((share, 1 + share))).ravel()
        masses = share * (lost + won) + won
    return growth
