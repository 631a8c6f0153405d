"""Arithmetic that methods share which set one opinion about the next token against another."""

from __future__ import annotations

import math

import numpy as np

from ovdecode.candidates import Mask
from ovdecode.numerics import Floats


def steered(logits: Floats, weight: float, toward: Floats, away: Floats) -> Floats:
    """logits + weight · (toward − away), shape (vocab,); what `logits` hold to be impossible stays impossible."""
    with np.errstate(invalid="ignore"):
        scores = logits + weight * (toward - away)
    scores[logits == -np.inf] = -np.inf
    return scores


def plausible(logits: Floats, alpha: float) -> Mask:
    """Which tokens have at least `alpha` times the probability of the best one, shape (vocab,)."""
    mask: Mask = logits >= logits.max() + math.log(alpha)
    return mask


def only(mask: Mask, scores: Floats) -> Floats:
    """The scores of some tokens, shape (vocab,); -inf for the others."""
    return np.where(mask, scores, scores.dtype.type(-np.inf))
