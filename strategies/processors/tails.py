"""Truncation of the tail where a quantity of the sorted distribution says that it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.numerics import SHORT
from ovdecode.plugin import one_of, require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.shared import ROUNDING

Rule = Literal["paper", "hf"]

_FEW = 64
"""So many of the most probable tokens are looked at first: the tail mostly begins before."""


@register("top_h")
@dataclass(frozen=True)
class TopH(LogitsProcessor):
    """The most probable tokens, as many as keep the entropy below a share of the whole distribution's.

    Law: with H the entropy of the candidates, the longest run of most probable tokens (ties to the lower id) whose
    entropy, renormalised, is at most h · H, or more by less than a millionth of it; it grows with every token. At
    least one is kept; h = 1 keeps all.

    rule="hf" is what transformers' `TopHLogitsWarper` computes: only the 100 best are looked at; with p and H theirs,
    tokens are kept while the running sum of -p log p, which is not renormalised, is at most h · H.

    Source: Baghaei Potraghloo, Azizi, Kundu, Pedram 2025, "Top-H Decoding: Adapting the Creativity and Coherence with
    Bounded Entropy in Text Generation", arXiv:2509.02510.

    Args:
        h: 0 < h <= 1; 0.4 is the paper's.
        rule: "paper" or "hf".

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TopH, Vocabulary
        >>> even = Candidates(np.zeros(16))                                  # 4 bits; 4 tokens have 2
        >>> TopH(0.5)(even, Vocabulary(16).root).ids.tolist()
        [0, 1, 2, 3]
        >>> TopH(0.5, rule="hf")(even, Vocabulary(16).root).ids.tolist()     # 8 tokens have half of the sum
        [0, 1, 2, 3, 4, 5, 6, 7]
    """

    h: float = 0.4
    rule: Rule = "paper"

    def __post_init__(self) -> None:
        require(self, "h", 0 < self.h <= 1, "a number above 0 and at most 1")
        one_of("rule", self.rule, Rule)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The best of the candidates."""
        if self.rule == "hf":
            best = candidates.top(100).possible
            falling = best.falling()
            surprises = -best.logprobs[falling].astype(np.float64)
            sums = (np.exp(-surprises) * surprises).cumsum()
            return _first(best, falling, sums, self.h * float(sums[-1]) * (1 + ROUNDING))
        bound = self.h * candidates.entropy * (1 + ROUNDING)
        count = _FEW
        while True:
            best = candidates.top(count).possible
            falling = best.falling()
            logprobs = best.logits[falling].astype(np.float64) - candidates.logsumexp
            weights = np.exp(logprobs)
            masses, moments = weights.cumsum(), (weights * logprobs).cumsum()
            entropies = np.log(masses) - moments / masses
            if entropies[-1] > bound or len(falling) < count:
                return _first(best, falling, entropies, bound)
            count *= 8


@register("tail_free")
@dataclass(frozen=True)
class TailFree(LogitsProcessor):
    """Tail-free sampling: the tokens before the curve of sorted probabilities becomes flat.

    Law: with p_1 >= p_2 >= ... the sorted probabilities (ties to the lower id), continued by zeros, the curvature
    at i is |p_i - 2·p_(i+1) + p_(i+2)|, and all of it counts as 1. Tokens are kept up to and including the first at
    which its running sum exceeds z by more than 1e-6; z = 1 keeps all.

    Source: Bricken 2019, "Tail Free Sampling". As in text-generation-webui, except for the zeros: without them
    the least probable token of all is always dropped, even if there are two. llama.cpp kept one token fewer.

    Args:
        z: 0 < z <= 1; 0.95 is usual.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TailFree, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])              # curvature 1/4 at each rank
        >>> TailFree(0.3)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [1, 2]
    """

    aliases = ("tfs",)

    z: float = 0.95

    def __post_init__(self) -> None:
        require(self, "z", 0 < self.z <= 1, "a number above 0 and at most 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates before the tail."""
        for size in (_FEW, SHORT, len(candidates)):
            best = candidates.top(size)
            falling = np.exp(np.sort(best.logits.astype(np.float64))[::-1] - candidates.peak)
            if len(falling) == len(candidates):
                falling = np.append(falling, (0.0, 0.0))
            steps = -np.diff(falling)
            sums = np.abs(np.diff(steps)).cumsum()
            # Beyond the tokens looked at, the steps come down to 0, on their way up and down at most by all of them.
            totals = sums[-1] + steps[-1] + np.array([0.0, 2 * falling[-1]])
            first, last = sums.searchsorted((self.z + ROUNDING) * totals, "right")
            if first == last < len(sums):
                break
        return best.top(int(first) + 1)


def _first(candidates: Candidates, falling: NDArray[np.intp], rising: NDArray[np.float64], bound: float) -> Candidates:
    """Those of the best, which `falling` lists, whose number in `rising` is at most `bound`; at least one."""
    count = int(rising.searchsorted(bound, "right"))
    return candidates.at(np.sort(falling[: max(count, 1)]))
