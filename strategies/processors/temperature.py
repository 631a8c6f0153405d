"""Temperature: one for all tokens, or one that follows the entropy or the text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.shared import tempered


@register("temperature")
@dataclass(frozen=True)
class Temperature(LogitsProcessor):
    """Logits divided by a temperature: below 1 sharpens the distribution, above 1 flattens it.

    Law: p_i becomes p_i^(1/T), normalised. The order of the tokens stays.

    Source: Ackley, Hinton, Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines".

    Args:
        temperature: T > 0. T → 0 is the argmax, which the strategy `greedy` takes without dividing by zero.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Temperature, Vocabulary
        >>> Temperature(0.5)(Candidates(np.array([1.0, 3.0, 2.0])), Vocabulary(3).root)
        Candidates({0: 2, 1: 6, 2: 4})
    """

    temperature: float

    def __post_init__(self) -> None:
        positive = 0 < self.temperature < math.inf
        require(self, "temperature", positive, "a finite number above 0 (for 0, use the strategy `greedy`)")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, with scaled logits."""
        return candidates.divided(float(self.temperature))


@register("dynamic_temperature")
@dataclass(frozen=True)
class DynamicTemperature(LogitsProcessor):
    """A temperature between two bounds that rises with the entropy: sharp where the model is sure.

    Law: T = low + (high - low) · (H / log n)^exponent, with H the entropy of the n candidates that are possible;
    a single one stays as it is.

    Source: llama.cpp's `temp_ext` (temperature ± `dynatemp_range`) and text-generation-webui's `dynatemp`. Both
    have this rule; llama.cpp cites Zhu et al. 2023 for it, whose method is another one (see `AdapT`).

    Args:
        low: the temperature of certainty, a finite number of at least 0.
        high: that of a uniform distribution, finite, at least `low` and above 0.
        exponent: above 0; above 1, the temperature stays low for longer.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, DynamicTemperature, Vocabulary
        >>> halves = Candidates(np.array([1.0, 1.0, -np.inf, -np.inf]))      # as unsure as two tokens can be
        >>> DynamicTemperature(low=0.1, high=2.0)(halves, Vocabulary(4).root)
        Candidates({0: 0.5, 1: 0.5, 2: -inf, 3: -inf})
    """

    aliases = ("dynatemp",)

    low: float
    high: float
    exponent: float = 1.0

    def __post_init__(self) -> None:
        require(self, "low", 0 <= self.low < math.inf, "a finite number of at least 0")
        sound = 0 < self.high < math.inf and self.low <= self.high
        require(self, "high", sound, f"a finite number above 0 and at least `low`, which is {self.low}")
        require(self, "exponent", 0 < self.exponent < math.inf, "a finite number above 0")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens at the temperature of their entropy."""
        possible = len(candidates.possible)
        if possible == 1:
            return candidates
        share = min(max(candidates.entropy / math.log(possible), 0.0), 1.0)
        return tempered(candidates, self.low + (self.high - self.low) * share**self.exponent)


@register("edt")
@dataclass(frozen=True)
class EDT(LogitsProcessor):
    """Entropy-based dynamic temperature: it falls towards 0 as the model becomes sure.

    Law: T = temperature · base^(theta / H), with H the entropy of the candidates in nats.

    Source: Zhang, Bao, Huang 2024, "EDT: Improving Large Language Models' Generation by Entropy-based Dynamic
    Temperature Sampling", arXiv:2403.14541 (T_0, θ, and N, which is 0.8 throughout).

    Args:
        temperature: the upper bound, a finite number above 0.
        theta: how strongly the entropy counts, a finite number above 0.
        base: 0 < base < 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import EDT, Candidates, Vocabulary
        >>> even = Candidates(np.array([1.0, 1.0]))                          # entropy log 2
        >>> EDT(1.0, theta=np.log(2), base=0.5)(even, Vocabulary(2).root)    # 0.5^1
        Candidates({0: 2, 1: 2})
    """

    temperature: float
    theta: float
    base: float = 0.8

    def __post_init__(self) -> None:
        require(self, "temperature", 0 < self.temperature < math.inf, "a finite number above 0")
        require(self, "theta", 0 < self.theta < math.inf, "a finite number above 0")
        require(self, "base", 0 < self.base < 1, "a number between 0 and 1, both excluded")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens at the temperature of their entropy."""
        entropy = candidates.entropy
        heat = self.base ** (self.theta / entropy) if entropy > 0 else 0.0
        return tempered(candidates, self.temperature * heat)


@register("adapt")
@dataclass(frozen=True)
class AdapT(LogitsProcessor):
    r"""Two temperatures, for code: a higher one where a block begins, a lower one everywhere else.

    Law: the temperature is `hard` if the text of the last 64 tokens, the prompt's included and special tokens
    left out, ends in a match of `pattern`, else `easy`.

    Source: Zhu et al. 2024, "Hot or Cold? Adaptive Temperature Sampling for Code Generation with Large Language
    Models", arXiv:2309.02772, which finds that the tokens that are hard to predict begin a code block. The default
    pattern takes each line for a block, its indentation not counted; `[:{]\s*` takes only what such a mark opens.

    Args:
        hard: temperature of a token that begins a block, above 0; the authors' code has 0.8 for HumanEval.
        easy: temperature of all others, above 0; the authors' code has 0.6.
        pattern: a regular expression, matched against the end of the text.

    Example:
        >>> import numpy as np
        >>> from ovdecode import AdapT, Candidates, Vocabulary
        >>> adapt, logits = AdapT(hard=1.0, easy=0.5, pattern="c"), Candidates(np.array([1.0, 2.0, 3.0]))
        >>> prompt = Vocabulary(3).prompt([0])                               # its tokens are letters
        >>> adapt(logits, prompt + 2), adapt(logits, prompt + 1)
        (Candidates({0: 1, 1: 2, 2: 3}), Candidates({0: 2, 1: 4, 2: 6}))
    """

    hard: float
    easy: float
    pattern: str = r"(^|\n)[ \t]*"

    def __post_init__(self) -> None:
        require(self, "hard", 0 < self.hard < math.inf, "a finite number above 0")
        require(self, "easy", 0 < self.easy < math.inf, "a finite number above 0")
        try:
            re.compile(self.pattern)
        except re.error as error:
            require(self, "pattern", False, f"a regular expression ({error})")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens at the temperature of their place."""
        spelling = sequence.vocabulary.spelling
        recent = [token for token in sequence.tokens[-64:].tolist() if token not in spelling.special_ids]
        text = b"".join(map(spelling.token_bytes, recent)).decode("utf-8", "replace")
        begins = re.search(rf"(?:{self.pattern})\Z", text) is not None
        return candidates.divided(self.hard if begins else self.easy)
