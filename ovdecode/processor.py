"""Logits processors: they take and return candidates, and a chain of them is one of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.plugin import Plugin
from ovdecode.sequence import Sequence


@dataclass(frozen=True)
class LogitsProcessor(Plugin):
    """Takes candidates and returns candidates, for a given sequence.

    A processor is a pure function: it changes neither its arguments nor itself. What it needs to know about earlier
    tokens it reads off the sequence (`sequence.tokens`, or a `Fold`). `a | b` applies a, then b; the order is the
    user's.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, TopK, Temperature, Vocabulary
        >>> chain = TopK(2) | Temperature(0.5)
        >>> chain(Candidates(np.array([1.0, 3.0, 2.0], np.float32)), Vocabulary(3).prompt([0]))
        Candidates({1: 6, 2: 4})
    """

    family: ClassVar[str] = "processor"
    described: ClassVar[str] = 'TopK(50) | TopP(0.9), say, or od.parse("top_k:k=50", "processor")'

    @abstractmethod
    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates for the token after `sequence`, changed or narrowed."""

    @property
    def stages(self) -> tuple[LogitsProcessor, ...]:
        """The single processors that this one consists of, in order."""
        return (self,)

    def __or__(self, other: LogitsProcessor) -> LogitsProcessor:
        if not isinstance(other, LogitsProcessor):
            return NotImplemented
        stages = self.stages + other.stages
        return stages[0] if len(stages) == 1 else Chain(stages)


@dataclass(frozen=True)
class Chain(LogitsProcessor):
    """Processors applied in order; the empty chain leaves everything as it is."""

    name: ClassVar[str] = "chain"
    processors: tuple[LogitsProcessor, ...] = ()

    @property
    def stages(self) -> tuple[LogitsProcessor, ...]:
        """The processors of the chain."""
        return self.processors

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """Apply each stage to what the one before it left."""
        for processor in self.processors:
            candidates = processor(candidates, sequence)
        return candidates


@dataclass(frozen=True)
class Stage:
    """What one stage of a chain did at one position.

    Attributes:
        processor: the stage's spec string.
        removed_tokens: how many candidates it took away.
        removed_mass: the probability that those had when it was their turn.
        candidates: what it left.
    """

    processor: str
    removed_tokens: int
    removed_mass: float
    candidates: Candidates


def trace(processor: LogitsProcessor, candidates: Candidates, sequence: Sequence) -> list[Stage]:
    """Apply a chain stage by stage and report what each removed."""
    report = []
    for stage in processor.stages:
        left = stage(candidates, sequence)
        gone = ~np.isin(candidates.ids, left.ids[left.logits > -np.inf])
        gone &= candidates.logits > -np.inf
        mass = float(candidates.probabilities[gone].sum(dtype=np.float64))
        report.append(Stage(str(stage), int(gone.sum()), mass, left))
        candidates = left
    return report
