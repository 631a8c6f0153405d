"""What several processors compute alike."""

from __future__ import annotations

from ovdecode.candidates import Candidates

ROUNDING = 1e-6
"""What single precision cannot resolve: a mass, or a logit, this little below a bound counts as at it."""
COLDEST = 1e-15
"""At this temperature the least difference that single precision can show is certainty already."""


def probable_enough(candidates: Candidates, logprob: float) -> Candidates:
    """Those with at least this log-probability, within `ROUNDING`; the best and its equals in any case."""
    return near_best(candidates, logprob + candidates.logsumexp - candidates.peak)


def near_best(candidates: Candidates, distance: float) -> Candidates:
    """Those whose logit is at most -`distance` below the best one's, within `ROUNDING`; its equals in any case."""
    return candidates.at(candidates.above(candidates.peak + min(distance - ROUNDING, 0.0)))


def tempered(candidates: Candidates, temperature: float) -> Candidates:
    """The same tokens at a temperature that was computed, and so may be 0."""
    return candidates.divided(max(temperature, COLDEST))
