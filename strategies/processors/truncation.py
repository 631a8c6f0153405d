"""Truncation by rank and mass: top-k, nucleus, min-p, locally typical."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.numerics import SHORT, crossing, total
from ovdecode.plugin import one_of, require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.shared import ROUNDING, near_best

Ties = Literal["lowest_id", "keep"]


@register("top_k")
@dataclass(frozen=True)
class TopK(LogitsProcessor):
    """The k most probable tokens.

    Law: exactly k are kept (all, if there are fewer); a tie at the border goes to the lower id. With
    ties="keep", every equal of the k-th is kept too, as transformers' `TopKLogitsWarper` does.

    Source: Fan, Lewis, Dauphin 2018, "Hierarchical Neural Story Generation", arXiv:1805.04833.

    Args:
        k: at least 1.
        ties: what happens to a tie at the border: "lowest_id" or "keep".

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TopK, Vocabulary
        >>> TopK(2)(Candidates(np.array([1.0, 3.0, 2.0, 2.0])), Vocabulary(4).root)
        Candidates({1: 3, 2: 2})
        >>> TopK(2, ties="keep")(Candidates(np.array([1.0, 3.0, 2.0, 2.0])), Vocabulary(4).root)
        Candidates({1: 3, 2: 2, 3: 2})
    """

    k: int
    ties: Ties = "lowest_id"

    def __post_init__(self) -> None:
        require(self, "k", self.k >= 1, "a whole number of at least 1")
        one_of("ties", self.ties, Ties)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The `k` best of the candidates."""
        candidates.peak  # noqa: B018  NaN has no rank: it must not pass for a lack of candidates
        best = candidates.top(self.k)
        if self.ties == "lowest_id" or best is candidates:
            return best
        return candidates.keep(candidates.logits >= best.logits.min())


@register("top_p")
@dataclass(frozen=True)
class TopP(LogitsProcessor):
    """The nucleus: the smallest set of most probable tokens whose mass reaches p.

    Law: in order of falling probability (ties to the lower id), tokens are kept up to and including the one
    at which the running sum reaches p. At least one is kept; p = 1 keeps all. The sum counts as p if it is
    within 1e-6.

    Source: Holtzman, Buys, Du, Forbes, Choi 2020, "The Curious Case of Neural Text Degeneration",
    arXiv:1904.09751.

    Args:
        p: 0 < p <= 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TopP, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])
        >>> TopP(0.6)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [1, 2]
    """

    aliases = ("nucleus",)

    p: float

    def __post_init__(self) -> None:
        require(self, "p", 0 < self.p <= 1, "a number above 0 and at most 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The nucleus of the candidates."""
        if self.p == 1:
            return candidates
        likely = candidates if len(candidates) <= SHORT else candidates.likely(self.p)
        if len(likely) > SHORT:
            heaviest = np.sort(likely.weights)[::-1].copy()  # reversed views are slow
            return likely.top(crossing(heaviest, (self.p - ROUNDING) * candidates.mass) + 1)
        falling = likely.falling()
        sums = likely.weights[falling].astype(np.float64).cumsum()
        mass = sums[-1] if likely is candidates else candidates.mass
        nucleus = falling[: int(sums.searchsorted((self.p - ROUNDING) * mass)) + 1]
        nucleus.sort()
        return likely.at(nucleus)


@register("min_p")
@dataclass(frozen=True)
class MinP(LogitsProcessor):
    """The tokens at least p times as probable as the most probable one.

    Law: keeps p_i >= p · max p; all equals of the best are kept, whatever p. In logits: l_i >= max l + log p,
    which holds if it is within 1e-6.

    Source: Nguyen, Baker, Neo, Roush, Kirsch, Shwartz-Ziv 2024, "Turning Up the Heat: Min-p Sampling for
    Creative and Coherent LLM Outputs", arXiv:2407.01082.

    Args:
        p: 0 < p <= 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, MinP, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])
        >>> MinP(0.4)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [1, 2]
    """

    p: float

    def __post_init__(self) -> None:
        require(self, "p", 0 < self.p <= 1, "a number above 0 and at most 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates near enough to the best."""
        return near_best(candidates, math.log(self.p))


@register("typical")
@dataclass(frozen=True)
class Typical(LogitsProcessor):
    """The locally typical set: the tokens whose surprise is nearest to the entropy, up to a mass.

    Law: in order of rising |-log p - H| (ties to the lower id), with H the entropy of the candidates in nats,
    tokens are kept up to and including the one at which the running sum of p reaches `mass`. At least one is
    kept; a mass of 1 keeps all. The sum counts as `mass` if it is within 1e-6. The best token may be dropped:
    that is the method. With ties="keep", every token as far from H as the last one is kept too, as transformers'
    `TypicalLogitsWarper` does.

    Source: Meister, Pimentel, Wiher, Cotterell 2023, "Locally Typical Sampling", arXiv:2202.00666.

    Args:
        mass: 0 < mass <= 1.
        ties: what happens to a tie at the border: "lowest_id" or "keep".

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Typical, Vocabulary
        >>> probabilities = np.array([0.5, 0.25, 0.125, 0.125])  # entropy 1.75 bits; surprises 1, 2, 3, 3
        >>> Typical(0.2)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [1]
        >>> Typical(0.8, ties="keep")(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [0, 1, 2, 3]
    """

    aliases = ("typical_p", "locally_typical")

    mass: float
    ties: Ties = "lowest_id"

    def __post_init__(self) -> None:
        require(self, "mass", 0 < self.mass <= 1, "a number above 0 and at most 1")
        one_of("ties", self.ties, Ties)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The typical set of the candidates."""
        if self.mass == 1:
            return candidates
        entropy = candidates.entropy
        # Whoever is more surprising than 2·H lies farther from H than a surprise of 0 does, and so than all others.
        likely = candidates.likely(self.mass, 2 * entropy)
        weights, kind = likely.weights, likely.logits.dtype.type
        distances = np.abs(likely.logits - kind(candidates.logsumexp) + kind(entropy))
        rising = np.argsort(distances)
        target = (self.mass - ROUNDING) * candidates.mass
        border = distances[rising[crossing(weights[rising], target)]]
        if self.ties == "keep":
            return likely.keep(distances <= border)
        chosen = distances < border
        ties = np.flatnonzero(distances == border)
        chosen[ties[: crossing(weights[ties], target - total(weights[chosen])) + 1]] = True
        return likely.keep(chosen)
