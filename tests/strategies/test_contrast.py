"""Steering by a difference of two opinions, where one of them holds a token to be impossible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ovdecode import ClassifierFreeGuidance, DoLa
from ovdecode.strategies.contrast import steered
from ovdecode.testing import table_model


@pytest.mark.parametrize("outer", [DoLa, lambda strategy: ClassifierFreeGuidance(3.0, strategy=strategy)])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_guidance_of_what_guidance_excluded(outer: Any, scale: float) -> None:
    """Where both sides of a difference were -inf it was NaN, and infinite where only the second was."""
    model, inner = table_model(), ClassifierFreeGuidance(scale)
    for prompt in ([0], [1, 2, 1, 2, 1], [4, 3, 0]):
        assert len(model.generate(prompt, outer(strategy=inner), max_new_tokens=3).tokens) >= 1


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        #      both known, neither side, not toward, not away, not in the logits
        (2.0, [3.0, 1.0, -np.inf, 1.0, -np.inf]),
        (0.0, [1.0, 1.0, 1.0, 1.0, -np.inf]),
        (-2.0, [-1.0, 1.0, 1.0, -np.inf, -np.inf]),
    ],
)
def test_steered_where_a_side_holds_it_to_be_impossible(weight: float, expected: list[float]) -> None:
    logits = np.array([1, 1, 1, 1, -np.inf], np.float32)
    toward = np.array([2, -np.inf, -np.inf, 2, 2], np.float32)
    away = np.array([1, -np.inf, 1, -np.inf, 1], np.float32)
    found = steered(logits, weight, toward, away)
    assert found.tolist() == expected
    assert found.dtype == np.float32
