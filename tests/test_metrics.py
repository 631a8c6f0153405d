"""Figures of repetition, on sequences whose answers are visible."""

from __future__ import annotations

import math

import pytest

from ovdecode.errors import ConfigurationError
from ovdecode.metrics import distinct_n, mean, repetition


def test_distinct_n():
    assert distinct_n([1, 2, 3, 4], 2) == 1.0
    assert distinct_n([1, 1, 1, 1, 1], 2) == 0.25
    assert distinct_n([1, 2, 1], 1) == pytest.approx(2 / 3)


def test_repetition_is_the_rest():
    assert repetition([1, 2, 3, 4, 5], 4) == 0.0
    assert repetition([1, 2, 1, 2, 1, 2, 1], 4) == 0.5
    assert repetition([1, 1, 1, 1, 1], 2) == 1 - distinct_n([1, 1, 1, 1, 1], 2)


def test_too_short_is_no_number():
    assert math.isnan(distinct_n([1], 2))
    assert math.isnan(repetition([], 1))
    with pytest.raises(ConfigurationError, match="`n` must be at least 1, got 0"):
        distinct_n([1], 0)


def test_mean_leaves_out_what_is_no_number():
    assert mean([1, math.nan, 2]) == 1.5
    assert math.isnan(mean([]))
