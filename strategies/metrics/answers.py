"""Answers: whether a text comes to the right result, and how often several attempts would."""

from __future__ import annotations

import re
from collections.abc import Sequence as Items
from dataclasses import dataclass
from decimal import Decimal
from math import fsum, isnan, nan, prod
from typing import ClassVar

from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result, SetMetric, TextMetric, raised
from ovdecode.plugin import require
from ovdecode.registry import register

_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)-?\$?\.\d+")


@register("numeric_answer")
@dataclass(frozen=True)
class NumericAnswer(TextMetric):
    """Whether the last number of a text is the reference's, as for GSM8K: 1 or 0.

    Law: the answer is the first number after the first `marker`, or without a marker the last number of all; the
    reference's is found likewise. Thousands may be set off by commas, and a $ may stand before; 18, 18.0 and
    $18.00 are equal. 0 for a text without a number; NaN without a reference that has one.

    Source: Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168 (GSM8K, whose
    references end in "#### 18"); the last number as in the flexible extraction of lm-evaluation-harness.

    Args:
        marker: what stands before the final answer.

    Example:
        >>> from ovdecode import NumericAnswer
        >>> from ovdecode.metric import Result
        >>> reference = ("She sells 9 eggs at $2. #### 18",)
        >>> [NumericAnswer()(Result(text, references=reference)) for text in ("9 * 2 = $18.00.", "2 * 9 is 20")]
        [1.0, 0.0]
    """

    higher_is_better: ClassVar[bool | None] = True
    marker: str = "####"

    def __post_init__(self) -> None:
        require(self, "marker", bool(self.marker), "a text of at least one character")

    def __call__(self, result: Result) -> float:
        """1 if it is right."""
        right = {self.number(reference) for reference in result.references} - {None}
        return float(self.number(result.text) in right) if right else nan

    def number(self, text: str) -> Decimal | None:
        """The number that a text answers with; None if it has none."""
        reasoning, marker, final = text.partition(self.marker)
        found = _NUMBER.findall(final if marker else reasoning)
        if not found:
            return None
        return Decimal(re.sub("[$,]", "", found[0 if marker else -1]))


@register("pass_at_k")
@dataclass(frozen=True)
class PassAtK(SetMetric):
    """pass@k: the probability that one of k attempts at a prompt is right.

    Law: of n attempts at a prompt c are right, those for which `metric` is 1; the estimate 1 - C(n-c, k) / C(n, k)
    has no bias, and is averaged over the prompts. Attempts to which `metric` does not apply are left out.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374.

    Args:
        k: how many attempts; at least 1, and at most as many as there are for each prompt.
        metric: says which attempts are right, such as `numeric_answer` or `exact_match`.

    Example:
        >>> from ovdecode import PassAtK
        >>> from ovdecode.metric import Result
        >>> attempts = [Result(text, prompt="2 + 2 = ", references=("4",)) for text in ("4", "5", "22")]
        >>> round(PassAtK(k=1)(attempts), 3), round(PassAtK(k=2)(attempts), 3)  # 1 of 3; 2 of the 3 pairs have it
        (0.333, 0.667)
    """

    higher_is_better: ClassVar[bool | None] = True
    k: int = 1
    metric: TextMetric = NumericAnswer()

    def __post_init__(self) -> None:
        require(self, "k", self.k >= 1, "a whole number of at least 1")

    def __call__(self, results: Items[Result]) -> float:
        """The mean over prompts; NaN if there is none to which it applies.

        Raises:
            ConfigurationError: for a prompt with fewer than k attempts.
        """
        attempts: dict[object, list[float]] = {}
        for result, value in zip(results, raised(self.metric.measure(results)), strict=True):
            if not isnan(value):
                attempts.setdefault((result.prompt, result.prompt_tokens, result.references), []).append(value)
        passed = [self._estimate(len(values), values.count(1.0)) for values in attempts.values()]
        return fsum(passed) / len(passed) if passed else nan

    def _estimate(self, n: int, c: int) -> float:
        if n < self.k:
            raise ConfigurationError(f"`k` of `pass_at_k` must be at most the {n} attempts at a prompt, got {self.k}")
        return 1.0 - prod(1.0 - self.k / attempt for attempt in range(n - c + 1, n + 1))
