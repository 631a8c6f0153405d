"""Feedback: truncation and shaping that steer by how surprising the text so far was to the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import exprel

from ovdecode.candidates import Candidates
from ovdecode.plugin import Plugin, require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.shared import probable_enough

_LN2 = math.log(2)


@register("mirostat")
@dataclass(frozen=True)
class Mirostat(LogitsProcessor):
    """Mirostat 2: tokens more surprising than a bound are cut, and the bound holds the mean surprise at a target.

    Law: keeps the candidates with -log2 p_i <= μ, p over those that came so far, which holds if it is within 1e-6
    nats; the best and its equals are kept in any case. μ begins as 2·tau, and each generated token moves it by
    -eta · (S - tau), where S is the token's surprise, -log2 p, under the model itself, as in the paper. So after n
    tokens μ = 2·tau + eta · (n·tau + log2 p(generated)), which is read off the sequence. A token whose probability is
    not known (see `Sequence.logprob`) is left out of n and p, with all that come after it.

    llama.cpp and text-generation-webui take S from the distribution that the cut left, in which every token is less
    surprising than to the model: their mean surprise under the model lies above tau. The strategy `mirostat_sampling`
    does as they do.

    Source: Basu, Ramachandran, Keskar, Varshney 2021, "Mirostat: A Neural Text Decoding Algorithm that Directly
    Controls Perplexity", arXiv:2007.14966 (μ, tau, eta); version 2, without Zipf's law, as in llama.cpp.

    Args:
        tau: target in bits, a finite number above 0.
        eta: learning rate, a finite number of at least 0.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Mirostat, Vocabulary
        >>> logits = Candidates(np.log([0.5, 0.25, 0.125, 0.125]))           # 1, 2, 3, 3 bits
        >>> prompt = Vocabulary(4).prompt([0])
        >>> Mirostat(tau=1.0)(logits, prompt).ids.tolist()                   # μ = 2
        [0, 1]
        >>> prompt.answered(np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32)), 0.0)
        >>> Mirostat(tau=1.0, eta=0.5)(logits, prompt + 3).ids.tolist()      # μ = 2 - 0.5 · (3 - 1)
        [0]
    """

    aliases = ("mirostat_2", "mirostat_v2")

    tau: float = 5.0
    eta: float = 0.1

    def __post_init__(self) -> None:
        check_control(self, self.tau, self.eta)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that are not too surprising."""
        return surprising_at_most(candidates, _bound(self.tau, self.eta, sequence))


@register("mirostat_1")
@dataclass(frozen=True)
class Mirostat1(LogitsProcessor):
    """Mirostat 1: the k best tokens, k from Zipf's law so that the mean surprise stays at a target.

    Law: with p_1 >= p_2 >= ... the sorted probabilities, Zipf's exponent is estimated over the m best of the possible
    tokens as s = Σ t_i·b_i / Σ t_i², t_i = log((i+1)/i), b_i = log(p_i/p_(i+1)), i < m. Of the candidates, the
    k = (e · 2^μ / (1 - N^-e))^(1/s) best are kept, rounded to the nearest whole number and at least 1, where e = s - 1
    and N is the size of the vocabulary. μ is that of `Mirostat`.

    llama.cpp rounds k down, and takes the surprise from what is left, as the strategy `mirostat_sampling` does; the
    authors' code adds 1 to k.

    Source: Basu, Ramachandran, Keskar, Varshney 2021, "Mirostat: A Neural Text Decoding Algorithm that Directly
    Controls Perplexity", arXiv:2007.14966.

    Args:
        tau: target in bits, a finite number above 0.
        eta: learning rate, a finite number of at least 0.
        m: how many tokens the exponent is estimated from; at least 2.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Mirostat1, Vocabulary
        >>> zipf = Candidates(-2 * np.log(np.arange(1, 101)))                # s = 2, so k² is about 2^μ
        >>> len(Mirostat1(tau=3.0)(zipf, Vocabulary(100).root))              # μ = 6
        8
    """

    aliases = ("mirostat_v1",)

    tau: float = 5.0
    eta: float = 0.1
    m: int = 100

    def __post_init__(self) -> None:
        check_control(self, self.tau, self.eta)
        require(self, "m", self.m >= 2, "a whole number of at least 2")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The best of the candidates."""
        k = zipf_rank(candidates, _bound(self.tau, self.eta, sequence), self.m, sequence.vocabulary.size)
        return candidates.top(max(1, round(k)))


@register("adaptive_p")
@dataclass(frozen=True)
class AdaptiveP(LogitsProcessor):
    """Tokens near a target probability become the most probable, and the target holds a running mean in place.

    Law: l_i becomes 5 - 10·d²/(1 + d), with d = |p_i - t| / 0.3; a token that was impossible stays so. t is
    2·target - M, kept between 0 and 1, where M begins as `target` and every generated token makes it
    decay · M + (1 - decay) · (its probability under the model itself). Tokens whose probability is not known (see
    `Sequence.logprob`) are left out. A token of probability 0 is far from the target but not impossible, and there
    are many: put a truncation before it, and nothing after it.

    llama.cpp takes a token's probability in M from the candidates that its chain had left, not from the model, as the
    strategy `adaptive_p_sampling` does.

    Source: llama.cpp pull request 17927 (ddh0, after MrJackSpade, 2025).

    Args:
        target: from 0 to 1; 0.3 to 0.8 is usual.
        decay: from 0 to 0.99.

    Example:
        >>> import numpy as np
        >>> from ovdecode import AdaptiveP, Candidates, Vocabulary
        >>> logits = Candidates(np.log([0.8, 0.2]))                          # d is 2 and 0
        >>> AdaptiveP(0.2)(logits, Vocabulary(2).root).logits.round(2).tolist()
        [-8.33, 5.0]
    """

    target: float
    decay: float = 0.9

    def __post_init__(self) -> None:
        check_target(self, self.target, self.decay)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, with other logits."""
        return nearest_most_probable(candidates, 2 * self.target - self.mean(sequence))

    def mean(self, sequence: Sequence) -> float:
        """The running mean of the generated tokens' probabilities, read backwards until it no longer changes."""
        mean, weight = 0.0, 1.0
        while sequence.generated_length and weight > 1e-12:
            parent = sequence.parent
            assert parent is not None
            probability = math.exp(sequence.logprob - parent.logprob)
            if not math.isnan(probability):
                mean += weight * (1 - self.decay) * probability
                weight *= self.decay
            sequence = parent
        return mean + weight * self.target


def surprising_at_most(candidates: Candidates, bits: float) -> Candidates:
    """Mirostat 2's cut: those with -log2 p at most so high, and the best."""
    return probable_enough(candidates, -bits * _LN2)


def zipf_rank(candidates: Candidates, bits: float, m: int, vocab_size: int) -> float:
    """Mirostat 1's cut: how many of the best to keep, not rounded, at most all."""
    falling = np.sort(candidates.top(m).possible.logits.astype(np.float64))[::-1]
    if len(falling) < 2:
        return len(candidates)
    ratios = np.diff(np.log(np.arange(1, len(falling) + 1)))
    exponent = float(ratios @ -np.diff(falling) / (ratios @ ratios))
    if exponent == 0:
        return len(candidates)  # all equal: no rank is better than another
    size = math.log(vocab_size)
    # e / (1 - N^-e) is 1 / (log N · exprel(-e · log N)), which does not divide by zero at e = 0.
    scale = -math.log(size * float(exprel((1 - exponent) * size)))
    return math.exp(min((bits * _LN2 + scale) / exponent, math.log(len(candidates))))


def nearest_most_probable(candidates: Candidates, target: float) -> Candidates:
    """Adaptive-p's logits: the highest for tokens whose probability is nearest to a target, kept between 0 and 1."""
    weights, target = candidates.weights, min(max(target, 0.0), 1.0)
    logits = weights * weights.dtype.type(1 / (0.3 * candidates.mass))
    logits -= target / 0.3
    np.abs(logits, out=logits)
    logits += 1  # 1 + d; in place, each of these passes takes half as long
    logits += 1 / logits
    logits *= -10
    logits += 25  # 25 - 10 · (1 + d + 1 / (1 + d)) is 5 - 10 d² / (1 + d)
    if candidates.logits[candidates.logits.argmin()] == -np.inf:
        logits[candidates.logits == -np.inf] = -np.inf
    return candidates.with_logits(logits)


def check_target(plugin: Plugin, target: float, decay: float) -> None:
    """Check adaptive-p's parameters."""
    require(plugin, "target", 0 <= target <= 1, "a number from 0 to 1")
    require(plugin, "decay", 0 <= decay <= 0.99, "a number from 0 to 0.99")


def check_control(plugin: Plugin, tau: float, eta: float) -> None:
    """Check mirostat's parameters."""
    require(plugin, "tau", 0 < tau < math.inf, "a finite number of bits above 0")
    require(plugin, "eta", 0 <= eta < math.inf, "a finite number of at least 0")


def _bound(tau: float, eta: float, sequence: Sequence) -> float:
    """Mirostat's μ after a sequence, in bits, from its longest beginning whose probability is known."""
    while math.isnan(sequence.logprob):
        assert sequence.parent is not None
        sequence = sequence.parent
    return 2 * tau + eta * (sequence.generated_length * tau + sequence.logprob / _LN2)
