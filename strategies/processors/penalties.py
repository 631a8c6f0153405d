"""Penalties: what has been said before becomes less likely, or more likely, to be said again."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.numerics import Floats
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence


@register("repetition")
@dataclass(frozen=True)
class RepetitionPenalty(LogitsProcessor):
    """Logits of tokens seen before, moved down by a factor.

    Law: once for each distinct token seen, however often: a negative logit is multiplied by the penalty, any
    other is divided by it. 1 leaves all as it is; below 1 rewards repetition. The law depends on where the
    logits' zero lies.

    Source: Keskar, McCann, Varshney, Xiong, Socher 2019, "CTRL", arXiv:1909.05858 (which divides only;
    multiplying negative logits is Hugging Face transformers' correction, and everybody's since).

    Args:
        penalty: above 0; 1.1 to 1.3 is usual.
        window: look at that many last tokens only, at least 1; None looks at all.
        prompt: whether the prompt's tokens count as seen.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, RepetitionPenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0]) + [1, 1]
        >>> RepetitionPenalty(2.0)(Candidates(np.array([-1.0, 3.0, 2.0])), sequence)
        Candidates({0: -2, 1: 1.5, 2: 2})
    """

    penalty: float
    window: int | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        require(self, "penalty", 0 < self.penalty < math.inf, "a finite number above 0")
        _check_window(self, self.window)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those seen with other logits."""
        return _scaled(candidates, _seen(sequence, self.window, self.prompt), self.penalty)


@register("encoder_repetition")
@dataclass(frozen=True)
class EncoderRepetitionPenalty(LogitsProcessor):
    """Logits of the prompt's tokens, moved up by a factor: a penalty on what the prompt does not say.

    Law: once for each distinct token of the prompt: a negative logit is divided by the penalty, any other is
    multiplied by it; that is `repetition` with the inverse penalty, and the prompt alone as seen. 1 leaves all
    as it is; below 1 keeps away from the prompt.

    Source: Hugging Face transformers, `EncoderRepetitionPenaltyLogitsProcessor`; for a model without an encoder,
    the prompt takes the place of the encoder's input.

    Args:
        penalty: above 0; 1.0 to 1.3 is usual.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, EncoderRepetitionPenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0, 1]) + [2]
        >>> EncoderRepetitionPenalty(2.0)(Candidates(np.array([-1.0, 3.0, 2.0])), sequence)
        Candidates({0: -0.5, 1: 6, 2: 2})
    """

    penalty: float

    def __post_init__(self) -> None:
        require(self, "penalty", 0 < self.penalty < math.inf, "a finite number above 0")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, the prompt's with other logits."""
        return _scaled(candidates, sequence.tokens[: sequence.prompt_length], 1 / self.penalty)


@dataclass(frozen=True)
class CountPenalty(LogitsProcessor):
    """A penalty that is subtracted from the logits of tokens that occurred, given how often they did.

    Args:
        penalty: any finite number, -2 to 2 is usual; negative rewards repetition.
        window: count in that many last tokens only, at least 1; None counts in all. llama.cpp: 64.
        prompt: whether the prompt's tokens count. OpenAI, vLLM and openvino.genai: no; llama.cpp: yes.
        toward_zero: add it to negative logits instead, so that these become more likely: openvino.genai's way.
    """

    penalty: float
    window: int | None = None
    prompt: bool = False
    toward_zero: bool = False

    def __post_init__(self) -> None:
        require(self, "penalty", math.isfinite(self.penalty), "a finite number")
        _check_window(self, self.window)

    @abstractmethod
    def amounts(self, counts: NDArray[np.intp]) -> Floats | float:
        """What is subtracted, for counts of at least 1, shape (n,)."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those that occurred with other logits."""
        tokens, counts = np.unique(_seen(sequence, self.window, self.prompt), return_counts=True)
        places = candidates.positions(tokens)
        before = candidates.logits[places]
        amounts = self.amounts(counts[np.isin(tokens, candidates.tokens(places))])
        moved = np.where(before < 0, -1, 1) * amounts if self.toward_zero else amounts
        return candidates.replaced(places, before - moved)


@register("presence")
@dataclass(frozen=True)
class PresencePenalty(CountPenalty):
    """Logits of tokens generated before, moved down by an amount.

    Law: l_i becomes l_i - penalty · [count_i > 0], where count_i is how often token i occurred.

    Source: OpenAI 2020, API reference, "Frequency and presence penalties".

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, PresencePenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0]) + [1, 1]
        >>> PresencePenalty(0.5)(Candidates(np.array([1.0, 3.0, 2.0])), sequence)
        Candidates({0: 1, 1: 2.5, 2: 2})
    """

    def amounts(self, counts: NDArray[np.intp]) -> Floats | float:
        """The penalty, however often."""
        return float(self.penalty)


@register("frequency")
@dataclass(frozen=True)
class FrequencyPenalty(CountPenalty):
    """Logits of tokens generated before, moved down by an amount for each time.

    Law: l_i becomes l_i - penalty · count_i, where count_i is how often token i occurred.

    Source: OpenAI 2020, API reference, "Frequency and presence penalties".

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, FrequencyPenalty, Vocabulary
        >>> sequence = Vocabulary(3).prompt([0]) + [1, 1]
        >>> FrequencyPenalty(0.5)(Candidates(np.array([1.0, 3.0, 2.0])), sequence)
        Candidates({0: 1, 1: 2, 2: 2})
    """

    def amounts(self, counts: NDArray[np.intp]) -> Floats | float:
        """The penalty for each time."""
        amounts: Floats = float(self.penalty) * counts
        return amounts


def _check_window(processor: LogitsProcessor, window: int | None) -> None:
    require(processor, "window", window is None or window >= 1, "a whole number of at least 1, or None for all tokens")


def _seen(sequence: Sequence, window: int | None, prompt: bool) -> NDArray[np.int64]:
    """The tokens that count, of the last `window` ones; None means of all."""
    first = 0 if prompt else sequence.prompt_length
    return sequence.tokens[first if window is None else max(first, sequence.length - window) :]


def _scaled(candidates: Candidates, tokens: NDArray[np.int64], factor: float) -> Candidates:
    """The given tokens' logits moved down by a factor; each once, for one written twice gets the same twice."""
    places = candidates.positions(tokens)
    before = candidates.logits[places]
    return candidates.replaced(places, np.where(before < 0, before * float(factor), before / float(factor)))
