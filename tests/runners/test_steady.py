"""To how many tokens an inference is filled up, written out."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

from ovdecode.runners.steady import CHANGE, STEP, Steady


@pytest.mark.parametrize(
    ("needed", "given"),
    [
        ([32, 32, 32], [32, 32, 32]),
        ([32, 31, 24, 32], [32, 32, 32, 32]),
        ([512, 32, 32], [512, 32, 32]),  # what is filled up would cost more than the change
        ([1, 2, 5, 8, 9], [8, 8, 8, 8, 16]),
        ([32, 33, 33, 33, 33], [32, 40, 40, 33, 33]),
        ([32, 25, 26, 26], [32, 32, 26, 26]),  # 13 were filled up, and no more than 26 were needed meanwhile
        ([32, 25, 32, 25, 25, 25], [32, 32, 32, 32, 32, 25]),  # 14 were, but 32 were needed; then 14 again
    ],
)
def test_by_eye(needed: list[int], given: list[int]) -> None:
    steady = Steady(sys.maxsize)
    assert [steady(tokens) for tokens in needed] == given


def test_no_more_than_the_most_unless_they_are_needed() -> None:
    steady = Steady(37)
    assert [steady(tokens) for tokens in (32, 33, 38, 37)] == [32, 37, 38, 38]


def test_what_is_filled_up_is_bounded_by_what_changes_would_cost() -> None:
    """On numbers that wander about: as many as are needed, and not much more than a change is worth between two."""
    rng = np.random.default_rng(0)
    needed = np.clip(40 + rng.integers(-6, 7, 2_000).cumsum(), 1, 90).tolist()
    steady = Steady(sys.maxsize)
    given = [steady(tokens) for tokens in needed]
    assert all(size >= tokens for size, tokens in zip(given, needed, strict=True))
    changes = sum(before != after for before, after in pairwise(given))
    filled = sum(given) - sum(needed)
    assert changes < sum(before != after for before, after in pairwise(needed)) / 2
    assert filled < (changes + 1) * (CHANGE + STEP) * 2
