"""Confidence: the mean log-probability of a window."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse
from ovdecode.strategies.stopping.confidence import Confidence
from ovdecode.vocabulary import Vocabulary

LOGITS = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))


def decoded(tokens):
    sequence = Vocabulary(4).prompt([0])
    for token in tokens:
        sequence.answered(LOGITS, 0.0)
        sequence += token
    return sequence


def test_the_mean_of_the_window_is_compared():
    criterion = Confidence(-1.2, window=2)
    assert criterion(decoded([])) is None
    assert criterion(decoded([3])) is None  # fewer than the window
    assert criterion(decoded([0, 1])) is None  # -(0.69 + 1.39) / 2 = -1.04
    assert criterion(decoded([1, 1])) is not None  # -1.39
    assert criterion(decoded([3, 3, 0, 0])) is None  # only the window counts
    assert str(criterion(decoded([0, 0, 3, 3]))) == "confidence(-2.079 < -1.2)"


def test_an_unknown_probability_stops_nothing():
    assert Confidence(-0.1, window=1)(Vocabulary(4).prompt([0]) + 3) is None


@pytest.mark.parametrize("criterion", [Confidence(-2.5), Confidence(0, window=8)], ids=str)
def test_spec_strings_come_back(criterion):
    assert parse(str(criterion), "stopping") == criterion
    assert not criterion.ends


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: Confidence(0.5), "threshold"),
        (lambda: Confidence(-math.inf), "threshold"),
        (lambda: Confidence(math.nan), "threshold"),
        (lambda: Confidence(-1.0, window=0), "window"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
