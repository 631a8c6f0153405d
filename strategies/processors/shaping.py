"""Shaping: the top, the curve or the weight of the sorted distribution changed, without a cut of the tail."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.deferred import Deferred
from ovdecode.numerics import Floats
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.random import Chooser
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import ban
from ovdecode.strategies.processors.shared import ROUNDING

_BEST, _MORE = 192, 16
"""A draw from the skewed distribution looks among so many first, then among so many times as many."""


@register("xtc")
@dataclass(frozen=True)
class XTC(LogitsProcessor):
    """Exclude top choices: with some probability, every probable token is dropped but the least probable of them.

    Law: let A be the tokens with p_i >= threshold (log p_i within 1e-6). If they are two or more, the law of the next
    token is the mixture: `probability` · (the law without A but for its least probable token, of equals the one with
    the highest id) + (1 - probability) · (the law unchanged). That is what the engines draw from when they toss a coin
    first; it is written out here, as log-probabilities, because a processor is no place for chance. So it is exact in
    beam search and speculative decoding too. If A has fewer than two, or would lose a protected token, the law stays.

    llama.cpp's chain has the temperature after the coin, and a mixture can't be tempered afterwards: so `temperature`
    is applied to both of its laws, after A was found. `XTC(p, t, temperature=T)` at the end of a chain is llama.cpp's
    XTC → temperature → draw.

    Source: p-e-w 2024, "Exclude Top Choices (XTC)", text-generation-webui pull request 6335; which protects newline
    and EOS, as llama.cpp does not.

    Args:
        probability: 0 < probability <= 1; 0.5 is usual.
        threshold: 0 < threshold <= 0.5, for more than half is never reached by two; 0.1 is usual.
        temperature: a finite number above 0.
        protected: token ids.

    Example:
        >>> import numpy as np
        >>> from ovdecode import XTC, Candidates, Vocabulary
        >>> logits = Candidates(np.log([0.5, 0.25, 0.25]))                   # half the time, token 2 alone is left
        >>> XTC(0.5, threshold=0.2)(logits, Vocabulary(3).root).probabilities
        array([0.25 , 0.125, 0.625])
    """

    aliases = ("exclude_top_choices",)

    probability: float = 0.5
    threshold: float = 0.1
    temperature: float = 1.0
    protected: Iterable[int] = ()

    def __post_init__(self) -> None:
        require(self, "probability", 0 < self.probability <= 1, "a number above 0 and at most 1")
        require(self, "threshold", 0 < self.threshold <= 0.5, "a number above 0 and at most 0.5")
        require(self, "temperature", 0 < self.temperature < math.inf, "a finite number above 0")
        try:
            protected = tuple(sorted({index(token) for token in self.protected}))
        except TypeError:
            protected = (-1,)
        require(self, "protected", min(protected, default=0) >= 0, "token ids")
        object.__setattr__(self, "protected", protected)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens with the log-probabilities of the mixture; without the top choices if that is certain."""
        choices = candidates.above(candidates.logsumexp + math.log(self.threshold) - ROUNDING)
        dropped = choices[np.argsort(-candidates.logits[choices], kind="stable")][:-1]
        law = candidates.divided(float(self.temperature))
        tokens = candidates.tokens(dropped)
        if len(dropped) == 0 or np.isin(tokens, tuple(self.protected)).any():
            return law.shifted(-law.logsumexp)
        kept = ban(law, tokens)
        if self.probability == 1:
            return kept.shifted(-kept.logsumexp)
        unchanged = math.log1p(-self.probability) - law.logsumexp
        both = float(np.logaddexp(math.log(self.probability) - kept.logsumexp, unchanged))
        mixed = law.shifted(-kept.peak).shifted(both + kept.peak)  # in this order, large ones lose no digits
        return mixed.replaced(dropped, law.logits[dropped].astype(np.float64) + unchanged)


@register("quadratic")
@dataclass(frozen=True)
class Quadratic(LogitsProcessor):
    """Quadratic sampling, or smoothing: logits as a curve of their distance from the best one.

    Law: with d_i = l_i - max l, l_i becomes max l - k·f·d_i² + s·f·d_i³, where f is `factor`, k = (3 - curve) / 2 and
    s = (curve - 1) / 2. The best token's logit stays.

    Source: kalomaze 2024, as in text-generation-webui (`smoothing_factor`, `smoothing_curve`).

    Args:
        factor: a finite number above 0; low flattens the top, high sharpens.
        curve: a finite number of at least 1; 1 is a parabola, more falls off faster. Above 3, tokens just below the
            best overtake it.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Quadratic, Vocabulary
        >>> Quadratic(0.5)(Candidates(np.array([3.0, 2.0, 0.0])), Vocabulary(3).root)    # d is 0, -1, -3
        Candidates({0: 3, 1: 2.5, 2: -1.5})
    """

    aliases = ("smoothing", "smoothing_factor")

    factor: float
    curve: float = 1.0

    def __post_init__(self) -> None:
        require(self, "factor", 0 < self.factor < math.inf, "a finite number above 0")
        require(self, "curve", 1 <= self.curve < math.inf, "a finite number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, with other logits."""
        best = candidates.logits.dtype.type(candidates.peak)
        distance = candidates.logits - best
        k, s = (3 - self.curve) / 2, (self.curve - 1) / 2
        slope = s * distance - k if s else -k  # 0 · inf would be NaN
        return candidates.with_logits(best + self.factor * distance * distance * slope)


@register("skew")
@dataclass(frozen=True)
class Skew(LogitsProcessor):
    """Mass moved along the sorted distribution, towards the tail or towards the top.

    Law: with C_k the mass of the k most probable tokens (ties to the lower id), it becomes C_k^(e^skew): above 0, the
    tail gains; below 0, the top.

    Source: turboderp 2024, exllamav2 (`skew`), which raises its uniform random number to the power e^-skew.

    Args:
        skew: from -20 to 20, but not 0.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Skew, Vocabulary
        >>> logits = Candidates(np.log([0.25, 0.5, 0.25]))                   # C: 1/2, 3/4, 1
        >>> Skew(float(np.log(2)))(logits, Vocabulary(3).root).probabilities # C²: 1/4, 9/16, 1
        array([0.3125, 0.25  , 0.4375])
    """

    skew: float

    def __post_init__(self) -> None:
        require(self, "skew", 0 < abs(self.skew) <= 20, "a number from -20 to 20, but not 0")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, with the probabilities of the skewed distribution."""
        return _Skewed(candidates, math.exp(self.skew))


class _Skewed(Deferred):
    """The skewed distribution. To order all tokens takes long, and most draws end among the best of them."""

    def __init__(self, before: Candidates, power: float) -> None:
        super().__init__(before)
        self._power = power

    def make(self) -> Floats:
        """What each token adds to C_k^power."""
        falling, weights = self.before.falling(), self.before.weights
        skewed = np.empty_like(weights)
        skewed[falling] = self._added(weights[falling].astype(np.float64))
        return skewed

    def draw(self, rng: Chooser) -> int:
        """A token with its skewed probability: one of the best, or one of all others, which are then looked among."""
        if rng.ordered:
            return super().draw(rng)
        others, refused, count = self.before.weights.copy(), 0, _BEST
        while True:
            top = self.before.top(count)
            best = self.before.positions(top.ids)[top.falling()]
            among = self.before.weights[best].astype(np.float64)
            others[best] = 0
            added = self._added(np.append(among, others.sum(dtype=np.float64)))
            added[:refused] = 0  # of the best, the first are those that were among them before
            place = rng.choose(added)
            if place < len(best):
                return self.token(int(best[place]))
            refused, count = len(best), _MORE * count

    def _added(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much C_k^power grows with each k, for weights in falling order, shape (n,)."""
        masses = weights.cumsum()
        with np.errstate(divide="ignore"):  # the first has no mass before it
            lost = -np.expm1(self._power * np.log1p(-weights / masses))  # of C_k^power, what C_(k-1)^power lacks
        added: NDArray[np.float64] = lost * np.exp(self._power * np.log(masses / masses[-1]))
        return added
