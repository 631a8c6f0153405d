"""Custom: any function of a sequence as a stopping criterion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason


@register("when")
@dataclass(frozen=True)
class When(StoppingCriterion):
    """Stops when a function of the sequence says so.

    Law: holds if `function(sequence)` is true. A `StopReason` that the function returns is passed on as it
    is. The function should depend on the sequence alone, and combines with other criteria as any criterion
    does.

    It is the one criterion without a spec string, as a function has none: it is for use from Python. Its
    `str` says what it is, and `parse` refuses that. For a spec string, write a criterion of your own (a
    dataclass of a few lines).

    Source: Python.

    Args:
        function: called with the `Sequence`.
        label: what the reason says.

    Example:
        >>> from ovdecode import When, Vocabulary
        >>> odd = When(lambda sequence: sequence.token % 2 == 1, "odd token")
        >>> prompt = Vocabulary(4).prompt([0])
        >>> print(odd(prompt + 2), odd(prompt + 3))
        None when(odd token)
    """

    function: Callable[[Sequence], object]
    label: str = ""

    def __post_init__(self) -> None:
        require(self, "function", callable(self.function), "a function of a sequence, given in Python (no spec string)")

    def __str__(self) -> str:
        return f"when({self.label or getattr(self.function, '__name__', 'function')})"

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """The reason that the function gives, or one with the label."""
        answer = self.function(sequence)
        if isinstance(answer, StopReason):
            return answer
        return StopReason(self.name, self.label) if answer else None
