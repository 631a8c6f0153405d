"""Thinking: a budget for what a model says to itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import NamedTuple

from ovdecode.fold import Fold
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason


class _Thought(NamedTuple):
    inside: bool = False
    tokens: int = 0  # generated since the opening
    tail: bytes = b""  # the end of what was read, as far as a mark may have begun in it


@register("thinking_budget")
@dataclass(frozen=True)
class ThinkingBudget(StoppingCriterion):
    """Stops when a passage between an opening and a closing mark grows too long.

    Law: holds if the opening mark has come, the closing mark has not come since, and at least `count` tokens
    have been generated after the opening. An opening after a closing starts the count again; in an open
    thought it is a part of that. The marks are looked for
    in prompt and generated text alike (chat templates open the thought themselves), special tokens included;
    only generated tokens are counted.

    Source: Muennighoff et al. 2025, "s1: Simple test-time scaling" (budget forcing), arXiv:2501.19393.

    Args:
        count: at least 1.
        opening: the mark as a string, found across the borders of tokens, or as token ids.
        closing: the same for its end.

    Example:
        >>> from ovdecode import ThinkingBudget, Vocabulary
        >>> budget = ThinkingBudget(2, opening="b", closing="c")
        >>> prompt = Vocabulary(26).prompt([0, 1])                  # "ab": the thought is open
        >>> print(budget(prompt + [3, 4]), budget(prompt + [3, 2, 4]))
        thinking_budget(2 tokens) None
    """

    count: int
    opening: str | Iterable[int] = "<think>"
    closing: str | Iterable[int] = "</think>"

    def __post_init__(self) -> None:
        require(self, "count", self.count >= 1, "a whole number of at least 1")
        for parameter in ("opening", "closing"):
            mark = getattr(self, parameter)
            if not isinstance(mark, str):
                try:
                    mark = tuple(index(token) for token in mark)
                except TypeError:
                    mark = ()
            sound = bool(mark) and (isinstance(mark, str) or min(mark) >= 0)
            require(self, parameter, sound, "a string or token ids, not empty")
            object.__setattr__(self, parameter, mark)
        alike = isinstance(self.opening, str) == isinstance(self.closing, str)
        require(self, "closing", alike, "a string if `opening` is one, else token ids")
        require(self, "closing", self.closing != self.opening, "another mark than `opening`")

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason if the budget is spent and the thought goes on."""
        thought = self._thoughts(sequence)
        spent = thought.inside and thought.tokens >= self.count
        return StopReason(self.name, f"{self.count} tokens") if spent else None

    @cached_property
    def _thoughts(self) -> Fold[_Thought]:
        """What is thought so far, which is the same for every budget with these marks."""
        return Fold(_Thought(), self._read, key=(self.name, self.opening, self.closing))

    @cached_property
    def _marks(self) -> tuple[bytes, bytes]:
        return _mark(self.opening), _mark(self.closing)

    def _read(self, thought: _Thought, sequence: Sequence) -> _Thought:
        spelled, marks = isinstance(self.opening, str), self._marks
        piece = sequence.vocabulary.spelling.token_bytes(sequence.token) if spelled else _letter(sequence.token)
        inside = thought.inside
        tokens = thought.tokens + (inside and sequence.generated_length > 0)
        tail = thought.tail + piece
        while (start := _find(tail, marks[inside], 1 if spelled else 4)) >= 0:
            tail = tail[start + len(marks[inside]) :]
            inside, tokens = not inside, 0
        return _Thought(inside, tokens, tail[-max(map(len, marks)) :])


def _letter(token: int) -> bytes:
    return token.to_bytes(4, "little")


def _mark(mark: str | Iterable[int]) -> bytes:
    return mark.encode() if isinstance(mark, str) else b"".join(map(_letter, mark))


def _find(text: bytes, mark: bytes, width: int) -> int:
    """Where `mark` begins in `text`, both written in letters of `width` bytes; -1 if it is not there."""
    start = text.find(mark)
    while start % width and start >= 0:
        start = text.find(mark, start + 1)
    return start
