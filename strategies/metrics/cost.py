"""Cost: how long a text is, why it ended, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import ClassVar

from ovdecode.metric import Result, TextMetric
from ovdecode.plugin import require
from ovdecode.registry import register


@register("length")
@dataclass(frozen=True)
class Length(TextMetric):
    """How many tokens were generated, an end token included.

    Source: Murray and Chiang 2018, "Correcting Length Bias in Neural Machine Translation", arXiv:1808.10006, on
    why methods differ in it.

    Example:
        >>> from ovdecode import Length
        >>> from ovdecode.metric import Result
        >>> Length()(Result("ab", tokens=(0, 1)))
        2.0
    """

    unit: ClassVar[str] = "tokens"

    def __call__(self, result: Result) -> float:
        """The number of tokens."""
        return float(len(result.tokens))


@register("stopped")
@dataclass(frozen=True)
class Stopped(TextMetric):
    """Whether a text ended for a certain reason: 1 or 0, so that the mean over texts is the share.

    Source: Welleck, Kulikov, Kim, Pang, Cho 2020, "Consistency of a Recurrent Language Model With Respect to Incomplete
    Decoding", arXiv:2002.02492, on texts that do not end by themselves.

    Args:
        reason: name of a stopping criterion, such as `eos`, `max_new_tokens` or `stop_string`.

    Example:
        >>> from ovdecode import Stopped
        >>> from ovdecode.metric import Result
        >>> [Stopped("eos")(Result("", stop=stop)) for stop in ("eos", "max_new_tokens")]
        [1.0, 0.0]
    """

    reason: str = "eos"

    def __post_init__(self) -> None:
        require(self, "reason", bool(self.reason), "the name of a stopping criterion")

    def __call__(self, result: Result) -> float:
        """1 if that was the reason."""
        return float(result.stop == self.reason)


@register("tokens_per_second")
@dataclass(frozen=True)
class TokensPerSecond(TextMetric):
    """Generated tokens a second, from the start of a text to its end.

    Law: tokens / seconds on the clock, while it shared the batch with others: it compares methods that ran
    together, and says less than the machine can do for one text alone.

    Source: Agrawal et al. 2024, "Metron: Holistic Performance Evaluation Framework for LLM Inference Systems",
    arXiv:2407.07000, on such figures and what they hide.

    Example:
        >>> from ovdecode import TokensPerSecond
        >>> from ovdecode.generation import Cost
        >>> from ovdecode.metric import Result
        >>> TokensPerSecond()(Result("abc", tokens=(0, 1, 2), cost=Cost(seconds=1.5)))
        2.0
    """

    higher_is_better: ClassVar[bool | None] = True
    unit: ClassVar[str] = "tokens/s"

    def __call__(self, result: Result) -> float:
        """Tokens / seconds; NaN where no time is noted."""
        return len(result.tokens) / result.cost.seconds if result.cost.seconds else nan


@register("time_to_first_token")
@dataclass(frozen=True)
class TimeToFirstToken(TextMetric):
    """Seconds until the first token was chosen.

    Source: Agrawal et al. 2024, "Metron: Holistic Performance Evaluation Framework for LLM Inference Systems",
    arXiv:2407.07000 (TTFT).

    Example:
        >>> from ovdecode import TimeToFirstToken
        >>> from ovdecode.generation import Cost
        >>> from ovdecode.metric import Result
        >>> TimeToFirstToken()(Result("a", cost=Cost(seconds=2.0, time_to_first_token=0.5)))
        0.5
    """

    higher_is_better: ClassVar[bool | None] = False
    unit: ClassVar[str] = "s"

    def __call__(self, result: Result) -> float:
        """The seconds; NaN where no time is noted."""
        return result.cost.time_to_first_token if result.cost.seconds else nan


@register("forwards_per_token")
@dataclass(frozen=True)
class ForwardsPerToken(TextMetric):
    """Inferences waited for, over all models, by generated tokens: 1 for greedy decoding, less for drafts that fit.

    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding",
    arXiv:2211.17192, whose speed-up it is the inverse of where drafts cost nothing.

    Example:
        >>> from ovdecode import ForwardsPerToken
        >>> from ovdecode.generation import Cost
        >>> from ovdecode.metric import Result
        >>> ForwardsPerToken()(Result("abcd", tokens=(0, 1, 2, 3), cost=Cost(forwards=3)))
        0.75
    """

    higher_is_better: ClassVar[bool | None] = False

    def __call__(self, result: Result) -> float:
        """Forwards / tokens; NaN for no tokens."""
        return result.cost.forwards / len(result.tokens) if result.tokens else nan


@register("info")
@dataclass(frozen=True)
class Info(TextMetric):
    """One of the strategy's own figures, such as the acceptance of drafts.

    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding",
    arXiv:2211.17192, for `acceptance`; each strategy's docstring names its own figures.

    Args:
        key: the figure's name. NaN for a text of a strategy that does not have it.

    Example:
        >>> from ovdecode import Info
        >>> from ovdecode.metric import Result
        >>> Info("acceptance")(Result("", info={"drafted": 4, "acceptance": 0.75}))
        0.75
    """

    key: str = "acceptance"

    def __post_init__(self) -> None:
        require(self, "key", bool(self.key), "the name of a figure")

    def __call__(self, result: Result) -> float:
        """The figure."""
        return float(result.info.get(self.key, nan))


@register("cache_bytes")
@dataclass(frozen=True)
class CacheBytes(TextMetric):
    """The most key/value cache that a text needed at once, in bytes.

    Law: see `cache_bytes` of `ovdecode.generation.Cost`: it depends on the method, the texts and the model's cache,
    and not on what else ran.

    Source: Kwon et al. 2023, "Efficient Memory Management for Large Language Model Serving with PagedAttention",
    arXiv:2309.06180, on why it bounds the batch.

    Example:
        >>> from ovdecode import CacheBytes
        >>> from ovdecode.generation import Cost
        >>> from ovdecode.metric import Result
        >>> CacheBytes()(Result("", cost=Cost(cache_bytes=4096))), CacheBytes()(Result(""))
        (4096.0, nan)
    """

    higher_is_better: ClassVar[bool | None] = False
    unit: ClassVar[str] = "bytes"

    def __call__(self, result: Result) -> float:
        """The bytes; NaN where they are not known."""
        return float(result.cost.cache_bytes) if result.cost.cache_bytes else nan
