"""Arithmetic that methods share which set one opinion about the next token against another."""

from __future__ import annotations

import math

import numpy as np

from ovdecode.candidates import Mask
from ovdecode.numerics import Floats


def difference(toward: Floats, away: Floats) -> Floats:
    """toward − away, shape (vocab,); 0 where `away` is -inf.

    What one opinion holds to be impossible, perhaps only because a method around this one has masked it, is nothing
    that the other can be infinitely far ahead of.
    """
    with np.errstate(invalid="ignore"):  # -inf − -inf
        found: Floats = toward - away
    if away[away.argmin()] == -np.inf:
        found[away == -np.inf] = 0
    return found


def steered(logits: Floats, weight: float, toward: Floats, away: Floats) -> Floats:
    """logits + weight · (toward − away), shape (vocab,); what `logits` hold to be impossible stays impossible.

    One of the two may hold a token to be impossible. The one that is added then makes it so; the one that is subtracted
    has no opinion of it (see `difference`). A weight below 0 adds `away`; a weight of 0 asks neither.
    """
    if weight == 0:
        return logits
    change = difference(toward, away) if weight > 0 else difference(away, toward)
    scores: Floats = logits + abs(weight) * change
    return scores


def plausible(logits: Floats, alpha: float) -> Mask:
    """Which tokens have at least `alpha` times the probability of the best one, shape (vocab,)."""
    mask: Mask = logits >= logits.max() + math.log(alpha)
    return mask


def only(mask: Mask, scores: Floats) -> Floats:
    """The scores of some tokens, shape (vocab,); -inf for the others."""
    found, places = np.full_like(scores, -np.inf), mask.nonzero()[0]
    found[places] = scores[places]
    return found
