"""Confidence: the model's own probability of what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason


@register("confidence")
@dataclass(frozen=True)
class Confidence(StoppingCriterion):
    """Stops when the mean log-probability of the last tokens falls below a threshold.

    Law: holds if at least `window` tokens have been generated and (log p(last `window` tokens)) / `window` is
    below `threshold`, p being the model's own, before any processor. Where the model was not asked at one of
    the positions, the mean is unknown and the criterion does not hold.

    Source: Fu, Wang, Tian, Zhao 2025, "Deep Think with Confidence", arXiv:2508.15260, whose confidence of a
    window is a mean over the best tokens of each position; here it is that of the tokens chosen.

    Args:
        threshold: a finite number, at most 0, in nats a token.
        window: at least 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Confidence, Vocabulary
        >>> prompt = Vocabulary(2).prompt([0])
        >>> prompt.answered(np.log(np.array([0.9, 0.1], np.float32)), 0.0)
        >>> print(Confidence(-1.0, window=1)(prompt + 0), Confidence(-1.0, window=1)(prompt + 1))
        None confidence(-2.303 < -1)
    """

    threshold: float
    window: int = 32

    def __post_init__(self) -> None:
        require(self, "threshold", -math.inf < self.threshold <= 0, "a finite number of at most 0")
        require(self, "window", self.window >= 1, "a whole number of at least 1")

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason that says how low the mean is."""
        if sequence.generated_length < self.window:
            return None
        mean = (sequence.logprob - sequence[: sequence.length - self.window].logprob) / self.window
        return StopReason(self.name, f"{mean:.4g} < {self.threshold:g}") if mean < self.threshold else None
