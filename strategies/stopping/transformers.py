"""transformers: any of its stopping criteria as one of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason
from ovdecode.strategies.processors.transformers import import_torch


@register("hf_criterion")
@dataclass(frozen=True)
class HFCriterion(StoppingCriterion):
    """Stops when a `StoppingCriteria` object of transformers says so.

    Law: holds if at least one token is generated (transformers asks no earlier) and the object, called with all
    tokens of the sequence, shape (1, length), and no scores, answers true.

    It is not known to come, so a task wants another bound beside it. The object must be a function of the tokens,
    which all of transformers are but the one of time. It has no spec string, as it is an object: this is for use from
    Python. Needs `torch`.

    Source: Hugging Face transformers, `StoppingCriteria`.

    Args:
        criterion: called as `criterion(input_ids, scores)`; of a list, combine the items with `|`.

    Example:
        >>> from ovdecode import HFCriterion
        >>> str(HFCriterion(lambda input_ids, scores: input_ids[:, -1] == 3))
        'hf_criterion(function)'
    """

    criterion: Callable[..., Any]

    def __post_init__(self) -> None:
        single = callable(self.criterion) and not isinstance(self.criterion, list)
        requirement = "one `StoppingCriteria` object of transformers, given in Python (no spec string, no list)"
        require(self, "criterion", single, requirement)

    def __str__(self) -> str:
        return f"{self.name}({type(self.criterion).__name__})"

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason that names the object's class, if it says to stop."""
        if not sequence.generated_length:
            return None
        torch = import_torch(self.name)
        holds = self.criterion(torch.from_numpy(sequence.tokens[None].copy()), None)
        return StopReason(self.name, type(self.criterion).__name__) if bool(holds) else None
