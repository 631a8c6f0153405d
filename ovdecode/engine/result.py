"""From finished sequences to what a user gets: nothing in it keeps a sequence, and so cache, alive."""

from __future__ import annotations

import traceback
from math import isnan

import numpy as np

from ovdecode.generation import Candidate
from ovdecode.sequence import Sequence
from ovdecode.stopping import StopReason
from ovdecode.strategy import Hypothesis
from ovdecode.text import generated_text


class StrategyTraceback(Exception):
    """Where an error came from, as text: the cause of the error that a `Generation` carries."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def candidate(hypothesis: Hypothesis, reason: StopReason | None) -> Candidate:
    """What is told about one sequence that ended for `reason`."""
    sequence = hypothesis.sequence
    text = generated_text(sequence, final=True)
    return Candidate(
        tokens=tuple(sequence.generated.tolist()),
        text=text if reason is None or reason.text_end is None else text[: reason.text_end],
        logprob=sequence.logprob,
        token_logprobs=token_logprobs(sequence),
        score=sequence.logprob if isnan(hypothesis.score) else hypothesis.score,
        stop_reason=reason,
        taken_back=len(sequence.prompt.taken_back),
    )


def token_logprobs(sequence: Sequence) -> tuple[float, ...]:
    """Log-probability of each generated token under the model itself; NaN where it is not known."""
    nodes = [sequence.prompt, *sequence.path(sequence.prompt_length)]
    return tuple(np.diff([node.logprob for node in nodes]).tolist())


def without_frames(error: Exception) -> Exception:
    """The error with its traceback as text: frames would hold every sequence that the strategy had in hand."""
    if isinstance(error.__cause__, StrategyTraceback):  # it failed another task before
        return error
    text = "".join(traceback.format_exception(error))
    error.__traceback__ = error.__context__ = None
    error.__cause__ = StrategyTraceback(text)
    return error
