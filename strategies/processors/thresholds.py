"""Truncation by a threshold: the tokens whose probability, or logit, reaches one that the whole distribution sets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ovdecode.candidates import Candidates
from ovdecode.numerics import total, weighted_sum
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.shared import near_best, probable_enough


@register("epsilon")
@dataclass(frozen=True)
class Epsilon(LogitsProcessor):
    """The tokens with a probability of at least epsilon.

    Law: keeps p_i >= epsilon, which holds if log p_i is within 1e-6; the best and its equals are kept in any case.

    Source: Hewitt, Manning, Liang 2022, "Truncation Sampling as Language Model Desmoothing", arXiv:2210.15191.

    Args:
        epsilon: 0 < epsilon < 1; the paper tries 3e-4 to 9e-4.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Epsilon, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])
        >>> Epsilon(0.2)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()
        [1, 2]
    """

    aliases = ("epsilon_cutoff",)

    epsilon: float

    def __post_init__(self) -> None:
        require(self, "epsilon", 0 < self.epsilon < 1, "a number between 0 and 1, both excluded")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that are probable enough."""
        return probable_enough(candidates, math.log(self.epsilon))


@register("eta")
@dataclass(frozen=True)
class Eta(LogitsProcessor):
    """The tokens with a probability of at least epsilon, or less where the entropy is high.

    Law: keeps p_i >= min(epsilon, sqrt(epsilon) · e^-H), with H the entropy of the candidates in nats; it holds if
    log p_i is within 1e-6. The best and its equals are kept in any case.

    Source: Hewitt, Manning, Liang 2022, "Truncation Sampling as Language Model Desmoothing", arXiv:2210.15191.

    Args:
        epsilon: 0 < epsilon < 1; the paper tries 3e-4 to 4e-3.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Eta, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])              # e^-H is 2^-1.75, about 0.3
        >>> Eta(0.25)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()    # 0.5 · 0.3
        [1, 2]
    """

    aliases = ("eta_cutoff",)

    epsilon: float

    def __post_init__(self) -> None:
        require(self, "epsilon", 0 < self.epsilon < 1, "a number between 0 and 1, both excluded")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that are probable enough."""
        border = math.log(self.epsilon)
        return probable_enough(candidates, min(border, border / 2 - candidates.entropy))


@register("top_n_sigma")
@dataclass(frozen=True)
class TopNSigma(LogitsProcessor):
    """The tokens whose logit is within n standard deviations of the best one's.

    Law: keeps l_i >= max l - n · σ, which holds if it is within 1e-6, with σ the population's standard deviation of
    the finite logits. No temperature before it changes what is kept, if no token was dropped in between.

    Source: Tang, Liu, Xu, Huang 2024, "Top-nσ: Not All Logits Are You Need", arXiv:2411.07641. As in llama.cpp;
    text-generation-webui counts impossible tokens as logits of 0 and divides by one fewer.

    Args:
        n: a finite number above 0; 1 is the paper's default.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TopNSigma, Vocabulary
        >>> logits = Candidates(np.array([9.0, 8.0, 1.0, 2.0]))              # mean 5, σ about 3.5
        >>> TopNSigma(1.0)(logits, Vocabulary(4).root)
        Candidates({0: 9, 1: 8})
    """

    n: float = 1.0

    def __post_init__(self) -> None:
        require(self, "n", 0 < self.n < math.inf, "a finite number above 0")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates near enough to the best."""
        logits = candidates.possible.logits
        distances = logits - logits.dtype.type(total(logits) / len(logits))
        sigma = math.sqrt(weighted_sum(distances, distances) / len(logits))
        return near_best(candidates, -self.n * sigma)


@register("p_less")
@dataclass(frozen=True)
class PLess(LogitsProcessor):
    """The tokens at least as probable as two independent draws are to agree; there is no parameter.

    Law: keeps p_i >= Σ p_j^2, which holds if its logarithm is within 1e-6. The best token always is.

    Source: Tan, Wu, Howard 2025, "p-less Sampling: A Robust Hyperparameter-Free Approach for LLM Decoding",
    arXiv:2509.23234.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, PLess, Vocabulary
        >>> probabilities = np.array([0.1, 0.5, 0.4])                        # Σ p^2 is 0.42
        >>> PLess()(Candidates(np.log(probabilities)), Vocabulary(3).root).ids.tolist()
        [1]
    """

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that are probable enough."""
        return probable_enough(candidates, math.log(candidates.mean(candidates.probabilities)))


@register("top_a")
@dataclass(frozen=True)
class TopA(LogitsProcessor):
    """The tokens whose probability is at least a share of the best one's square.

    Law: keeps p_i >= a · (max p)^2, which holds if its logarithm is within 1e-6. The best token always is.

    Source: the README of RWKV-LM (BlinkDL), "The top-a sampling method"; known through KoboldAI and
    text-generation-webui.

    Args:
        a: 0 < a <= 1; 0.2 is the author's.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TopA, Vocabulary
        >>> probabilities = np.array([0.125, 0.5, 0.25, 0.125])
        >>> TopA(0.8)(Candidates(np.log(probabilities)), Vocabulary(4).root).ids.tolist()    # 0.8 · 0.25
        [1, 2]
    """

    a: float = 0.2

    def __post_init__(self) -> None:
        require(self, "a", 0 < self.a <= 1, "a number above 0 and at most 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that are probable enough."""
        best = candidates.peak - candidates.logsumexp
        return probable_enough(candidates, math.log(self.a) + 2 * best)
