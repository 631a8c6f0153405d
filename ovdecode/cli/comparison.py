"""A comparison: every method on every prompt, and the figures by which methods differ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ovdecode.strategies.metrics.repetition import distinct_n, repetition

if TYPE_CHECKING:
    from ovdecode.cli.batch import Batch
    from ovdecode.generation import Generation
    from ovdecode.model import Model

DEFAULT_STRATEGIES = (
    "greedy",
    "sampling:temperature=0.8,top_p=0.95",
    "sampling:temperature=1.5,min_p=0.1",
    "beam:num_beams=4",
    "best_of_n:n=4,strategy=(sampling:temperature=0.8,top_p=0.95)",
    "speculative",
)
"""Six methods that differ in what they are for. Greedy is the baseline. The two samplers cut the tail in two
ways: by mass, and relative to the best token at a temperature that would ruin the first. Beam search finds
the most probable text, and shows that this is a dull one. Best-of-n grants the same wish by sampling, at the
same width. Speculative decoding must give the text of greedy, token by token, in fewer forwards."""


@dataclass(frozen=True)
class Figures:
    """One method's figures: means over its generations that did not fail, NaN where there are none.

    Attributes:
        strategy: spec string.
        finished, failed: how many generations there are, and how many of them failed.
        tokens: generated tokens a generation.
        tokens_per_second: all its tokens by all its seconds, while sharing the batch with all other methods.
        forwards: inferences waited for, a generation.
        mean_logprob: log-probability a token under the model itself, in nats.
        distinct_2: share of 2-grams that are distinct (the metric `distinct_n`).
        repetition: share of 4-grams that occurred before (the metric `rep_n`).
        info: the method's own diagnostics, such as acceptance.
    """

    strategy: str
    finished: int
    failed: int
    tokens: float
    tokens_per_second: float
    forwards: float
    mean_logprob: float
    distinct_2: float
    repetition: float
    info: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it.

    Task number (p · methods + m) · samples + s is sample s of method m on prompt p.
    """

    model: Model
    prompts: list[str]
    strategies: list[str]
    samples: int
    batch: Batch

    @property
    def expected(self) -> int:
        """How many generations a whole run has."""
        return len(self.prompts) * len(self.strategies) * self.samples

    @property
    def failed(self) -> bool:
        """Whether any generation failed."""
        return any(one.error is not None for one in self.batch.generations.values())

    @property
    def tokens(self) -> int:
        """Tokens generated, by all."""
        return sum(len(one.tokens) for one in self.batch.generations.values())

    def index(self, prompt: int, strategy: int, sample: int) -> int:
        """The number of a task."""
        return (prompt * len(self.strategies) + strategy) * self.samples + sample

    def place(self, index: int) -> tuple[int, int, int]:
        """Prompt, strategy and sample of a task by its number."""
        cell, sample = divmod(index, self.samples)
        return *divmod(cell, len(self.strategies)), sample

    def cell(self, prompt: int, strategy: int) -> list[Generation | None]:
        """The samples of one method on one prompt; None for one that was not finished."""
        return [self.batch.generations.get(self.index(prompt, strategy, sample)) for sample in range(self.samples)]

    @cached_property
    def figures(self) -> list[Figures]:
        """The figures of each method, in order."""
        by_strategy: list[list[Generation]] = [[] for _ in self.strategies]
        for index, generation in sorted(self.batch.generations.items()):
            by_strategy[self.place(index)[1]].append(generation)
        return [figures(spec, group) for spec, group in zip(self.strategies, by_strategy, strict=True)]


def figures(strategy: str, generations: list[Generation]) -> Figures:
    """The figures of one method."""
    good = [one for one in generations if one.error is None]
    seconds = math.fsum(one.cost.seconds for one in good)
    tokens = sum(len(one.tokens) for one in good)
    names = dict.fromkeys(name for one in good for name in one.info)
    return Figures(
        strategy=strategy,
        finished=len(generations),
        failed=len(generations) - len(good),
        tokens=mean(len(one.tokens) for one in good),
        tokens_per_second=tokens / seconds if seconds else math.nan,
        forwards=mean(one.cost.forwards for one in good),
        mean_logprob=mean(one.mean_logprob for one in good),
        distinct_2=mean(distinct_n(one.tokens, 2) for one in good),
        repetition=mean(repetition(one.tokens, 4) for one in good),
        info={name: mean(float(one.info[name]) for one in good if name in one.info) for name in names},
    )


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are numbers; NaN if none is.

    Example:
        >>> mean([1.0, float("nan"), 3.0])
        2.0
    """
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
