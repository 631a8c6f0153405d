"""From finished sequences to what a user gets: nothing in it keeps a sequence, and so cache, alive."""

from __future__ import annotations

import traceback
from math import isnan

from ovdecode.generation import Candidate
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
        token_logprobs=sequence.token_logprobs,
        score=sequence.logprob if isnan(hypothesis.score) else hypothesis.score,
        stop_reason=reason,
        taken_back=len(sequence.prompt.taken_back),
    )


def without_frames(error: Exception) -> Exception:
    """The error with its traceback as text: frames would hold every sequence that the strategy had in hand."""
    if not isinstance(error.__cause__, StrategyTraceback):  # or else it failed another task before
        error.__cause__ = StrategyTraceback("".join(traceback.format_exception(error)))
    _forget_frames(error)
    return error


def _forget_frames(error: BaseException) -> None:
    """Clear what leads to frames, in an error and in all that it groups."""
    errors = [error]
    for each in errors:
        each.__traceback__ = each.__context__ = None
        if not isinstance(each.__cause__, StrategyTraceback):
            each.__cause__ = None
        parts = getattr(each, "exceptions", ())  # of an ExceptionGroup, which Python 3.10 does not have
        if isinstance(parts, tuple):
            errors += [part for part in parts if isinstance(part, BaseException) and part not in errors]
