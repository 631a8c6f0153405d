"""Length and time: the criteria that are sure to come."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import ClassVar

from ovdecode.errors import ConfigurationError
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason


@register("max_new_tokens")
@dataclass(frozen=True)
class MaxNewTokens(StoppingCriterion):
    """Stops when a number of tokens has been generated.

    Law: holds if at least `count` tokens come after the prompt; sure to come.

    Source: Hugging Face transformers, `max_new_tokens`.

    Args:
        count: at least 1.

    Example:
        >>> from ovdecode import MaxNewTokens, Vocabulary
        >>> prompt = Vocabulary(4).prompt([0, 1, 2])
        >>> print(MaxNewTokens(2)(prompt + 3), MaxNewTokens(2)(prompt + [3, 3]))
        None max_new_tokens(2)
    """

    aliases = ("max_tokens",)
    bounded: ClassVar[bool] = True
    count: int

    def __post_init__(self) -> None:
        require(self, "count", self.count >= 1, "a whole number of at least 1")

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason once `count` tokens are generated."""
        return StopReason(self.name, str(self.count)) if sequence.generated_length >= self.count else None

    def bound(self, prompt: Sequence) -> int:
        """What is left of `count`."""
        return max(self.count - prompt.generated_length, 0)


@register("max_length")
@dataclass(frozen=True)
class MaxLength(StoppingCriterion):
    """Stops when prompt and generated tokens together reach a length.

    Law: holds if the whole sequence has at least `length` tokens; sure to come.

    Source: Hugging Face transformers, `max_length`.

    Args:
        length: at least 1.

    Example:
        >>> from ovdecode import MaxLength, Vocabulary
        >>> prompt = Vocabulary(4).prompt([0, 1, 2])
        >>> print(MaxLength(5)(prompt + 3), MaxLength(5)(prompt + [3, 3]))
        None max_length(5)
    """

    bounded: ClassVar[bool] = True
    length: int

    def __post_init__(self) -> None:
        require(self, "length", self.length >= 1, "a whole number of at least 1")

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason once the sequence is `length` tokens long."""
        return StopReason(self.name, str(self.length)) if sequence.length >= self.length else None

    def bound(self, prompt: Sequence) -> int:
        """What the prompt leaves of `length`."""
        return max(self.length - prompt.length, 0)


@register("max_time")
@dataclass(frozen=True)
class MaxTime(StoppingCriterion):
    """Stops when a time has passed since the run began.

    Law: holds if at least `seconds` lie between `begin` and the call; sure to come. It is the one criterion
    that is no function of the tokens: two runs may stop at different places.

    Source: Hugging Face transformers, `max_time`.

    Args:
        seconds: above 0.

    Example:
        >>> from ovdecode import MaxTime, Vocabulary
        >>> prompt = Vocabulary(4).prompt([0])
        >>> print(MaxTime(3600).begin(prompt)(prompt))
        None
    """

    bounded: ClassVar[bool] = True
    seconds: float

    def __post_init__(self) -> None:
        require(self, "seconds", 0 < self.seconds < math.inf, "a finite number above 0")

    @staticmethod
    def clock() -> float:
        """Seconds since some fixed moment; a test puts its own here."""
        return time.monotonic()

    def begin(self, prompt: Sequence) -> StoppingCriterion:
        """The criterion with its clock running."""
        return _Deadline(self, self.clock() + float(self.seconds))

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """Not to be called: only what `begin` returns knows when the time began."""
        raise ConfigurationError(f"`{self}` must be begun before it is asked; use what `begin(prompt)` returns")


@dataclass(frozen=True)
class _Deadline(StoppingCriterion):
    name: ClassVar[str] = "max_time"
    bounded: ClassVar[bool] = True
    limit: MaxTime
    moment: float

    def __call__(self, sequence: Sequence) -> StopReason | None:
        return StopReason(self.name, f"{self.limit.seconds:g} s") if self.limit.clock() >= self.moment else None
