"""Stopping criteria: each says why a sequence ends, and combinations of them do too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ovdecode.plugin import Plugin
from ovdecode.sequence import Sequence


@dataclass(frozen=True)
class StopReason:
    """Why a sequence ended.

    Attributes:
        name: the criterion's registered name, such as `eos`.
        detail: what it saw, such as the stop string.
        text_end: how many characters of the generated text to show; None shows all.
    """

    name: str
    detail: str = ""
    text_end: int | None = None

    def __str__(self) -> str:
        return f"{self.name}({self.detail})" if self.detail else self.name


Stop = Callable[[Sequence], "StopReason | None"]
"""What a strategy is handed: is this sequence finished, and why."""


@dataclass(frozen=True)
class StoppingCriterion(Plugin):
    """Called with a sequence, returns a reason (truthy) or None.

    `a | b` stops as soon as either does, `a & b` when both do, `~a` while a does not. A criterion is a function of
    the sequence alone; one that is not (a deadline) returns its running form from `begin`.
    """

    family: ClassVar[str] = "stopping"
    bounded: ClassVar[bool] = False
    """Whether every sequence that only grows meets this criterion in the end."""

    @abstractmethod
    def __call__(self, sequence: Sequence) -> StopReason | None:
        """The reason to end after the last token of `sequence`, or None."""

    def begin(self, prompt: Sequence) -> StoppingCriterion:
        """The criterion to use for one run that starts at `prompt`."""
        return self

    @property
    def ends(self) -> bool:
        """Whether this criterion is sure to come."""
        return self.bounded

    def bound(self, prompt: Sequence) -> int | None:
        """The most tokens that can follow `prompt` before this criterion is met; None if there is no such number."""
        return None

    @property
    def withheld(self) -> int:
        """How many characters at the end of unfinished text may still be cut off by this criterion."""
        return 0

    def __or__(self, other: StoppingCriterion) -> AnyOf:
        return AnyOf((self, other))

    def __and__(self, other: StoppingCriterion) -> AllOf:
        return AllOf((self, other))

    def __invert__(self) -> Not:
        return Not(self)


@dataclass(frozen=True)
class AnyOf(StoppingCriterion):
    """Stops as soon as one of several does; the first that does gives the reason."""

    name: ClassVar[str] = "any_of"
    criteria: tuple[StoppingCriterion, ...]

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """The first reason found, or None."""
        for criterion in self.criteria:
            reason = criterion(sequence)
            if reason is not None:
                return reason
        return None

    def begin(self, prompt: Sequence) -> AnyOf:
        """All parts begun."""
        return AnyOf(tuple(criterion.begin(prompt) for criterion in self.criteria))

    def bound(self, prompt: Sequence) -> int | None:
        """The least bound of a part."""
        bounds = [criterion.bound(prompt) for criterion in self.criteria]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def ends(self) -> bool:
        """Sure to come if one part is."""
        return any(criterion.ends for criterion in self.criteria)

    @property
    def withheld(self) -> int:
        """The most that a part may cut off."""
        return max(criterion.withheld for criterion in self.criteria)


@dataclass(frozen=True)
class AllOf(StoppingCriterion):
    """Stops when all of several hold at once. All of the text is shown: none of them alone decided where it ends."""

    name: ClassVar[str] = "all_of"
    criteria: tuple[StoppingCriterion, ...]

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """All reasons joined, or None."""
        reasons = []
        for criterion in self.criteria:
            reason = criterion(sequence)
            if reason is None:
                return None
            reasons.append(reason)
        return StopReason(" & ".join(map(str, reasons)))

    def begin(self, prompt: Sequence) -> AllOf:
        """All parts begun."""
        return AllOf(tuple(criterion.begin(prompt) for criterion in self.criteria))

    @property
    def ends(self) -> bool:
        """Sure to come if all parts are: what only grows meets each of them and stays there."""
        return all(criterion.ends for criterion in self.criteria)


@dataclass(frozen=True)
class Not(StoppingCriterion):
    """Stops while another criterion does not: useful inside `&`."""

    name: ClassVar[str] = "not"
    criterion: StoppingCriterion

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason that names the criterion that did not hold, or None if it did."""
        return StopReason(f"not {self.criterion.name}") if self.criterion(sequence) is None else None

    def begin(self, prompt: Sequence) -> Not:
        """The negation of the begun part."""
        return Not(self.criterion.begin(prompt))
