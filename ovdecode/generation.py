"""What comes out of decoding: tokens, text, probability, why it ended and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovdecode.stopping import StopReason

if TYPE_CHECKING:
    from ovdecode.engine.task import Task


@dataclass(frozen=True)
class Cost:
    """What a decoding cost, counted as if it had run alone, so that methods compare whatever they ran beside.

    Attributes:
        forwards: inferences waited for, over all models.
        tokens: tokens fed through a model, prompt included.
        seconds: from its start to its end, on a clock that stands still while a model is loaded or compiled.
        time_to_first_token: seconds until the first token was chosen.
        cache_bytes: the most key/value cache that it needed at once: the distinct tokens of all sequences that it asked
            about in one round, by the bytes that a token takes in the runner's cache; 0 for a runner without one. What
            several of these begin with counts once; what other tasks share counts in full; pages are not rounded up. A
            model that is not asked in a round, such as a draft, keeps what it was last asked about.
    """

    forwards: int = 0
    tokens: int = 0
    seconds: float = 0.0
    time_to_first_token: float = 0.0
    cache_bytes: int = 0


@dataclass(frozen=True)
class Candidate:
    """One decoded sequence.

    Attributes:
        tokens: ids of the generated tokens.
        text: the generated text, without special tokens. It goes on where the prompt's text ended.
        logprob: sum of `token_logprobs`.
        token_logprobs: log-probability of each token under the model itself, before any processor; NaN where the
            model was not asked.
        score: what the strategy ranked it by.
        stop_reason: why it ended (`cancelled` if it was); None if the strategy gave up on its own.
        taken_back: how many of the prompt's last tokens were chosen again: `tokens` follow the prompt without these,
            and the first of them spell what these spelled.
    """

    tokens: tuple[int, ...]
    text: str
    logprob: float
    token_logprobs: tuple[float, ...]
    score: float
    stop_reason: StopReason | None
    taken_back: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Generation(Candidate):
    """The result of one task: its best sequence, and what is known about the run.

    Attributes:
        task: what was asked for.
        index: the task's place in the order in which tasks were given.
        alternatives: all sequences that the strategy returned, best (this one) first.
        info: the strategy's own figures, such as acceptance.
        cost: what it cost.
        runner: name of the path that ran, such as `paged`.
        precision: name of the precision that ran: `fast`, `invariant` or `exact`.
        error: what went wrong, if anything; the other fields then tell how far it got.
    """

    task: Task
    index: int
    alternatives: tuple[Candidate, ...] = ()
    info: Mapping[str, float] = field(default_factory=dict)
    cost: Cost = Cost()
    runner: str = ""
    precision: str = ""
    error: Exception | None = None

    @property
    def mean_logprob(self) -> float:
        """Log-probability a token; NaN for no tokens."""
        return self.logprob / len(self.tokens) if self.tokens else float("nan")

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from ovdecode.notebook import generation_html

        return generation_html(self)
