"""The switch by entropy and varentropy: one distribution for each quadrant."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ovdecode import Candidates, Entropix, Vocabulary
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.strategies.processors.entropix import moments

INF = math.inf
SURE = np.array([20.0, 0.0, 0.0])
EVEN = np.zeros(64)  # 6 bits, each
FORKED = np.log([0.9, *[0.1 / 256] * 256])  # 0.15 bits or 11.3, seldom
MISTY = np.log([0.5, *[0.5 / 4096] * 4096])  # 1 bit or 13
BETWEEN = np.log([0.5, 0.25, 0.25])  # 1 bit or 2


def divisor(entropix: Entropix, logits: np.ndarray, generated: tuple[int, ...] = ()) -> float:
    sequence = Vocabulary(len(logits)).prompt([0]) + list(generated)
    row = (logits - 1).astype(np.float32)  # no logit is 0
    return float(row.max() / entropix(Candidates(row), sequence).logits.max())


@pytest.mark.parametrize(
    ("logits", "entropy", "varentropy"),
    [
        (EVEN, 6, 0),
        (BETWEEN, 1.5, 0.25),
        (MISTY, 7, 36),
        (np.array([0.0, -INF, 0.0, -INF]), 1, 0),
        (np.array([5.0]), 0, 0),
    ],
)
def test_moments_of_the_surprise_in_bits(logits: np.ndarray, entropy: float, varentropy: float) -> None:
    assert moments(Candidates(logits)) == pytest.approx((entropy, varentropy), abs=1e-6)


def test_sure_and_even_about_it_is_the_best_token() -> None:
    assert Entropix()(Candidates(SURE), Vocabulary(3).root).ids.tolist() == [0]


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (EVEN, 1.5 * 0.666),  # below 1.3
        (FORKED, 1.5 * 0.666),  # below 1.2
        (MISTY, 2.0),  # above 3 · 0.666
        (BETWEEN, 0.5 * 0.666),  # (1.5 + 0.25) / 10, but at least a half
    ],
)
def test_the_temperature_of_each_quadrant(logits: np.ndarray, expected: float) -> None:
    assert divisor(Entropix(), logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("logits", "expected"), [(EVEN, 1.3), (FORKED, 1.2), (MISTY, 4.5), (BETWEEN, 0.75)])
def test_the_temperatures_are_bounded(logits: np.ndarray, expected: float) -> None:
    assert divisor(Entropix(temperature=1.5), logits) == pytest.approx(expected, rel=1e-5)


def test_in_between_the_temperature_grows_with_both_moments() -> None:
    middle = np.zeros(256)  # 8 bits, and a varentropy of 0 is not below 0
    wide = Entropix(temperature=1.0, high_entropy=9.0, low_varentropy=0.0)
    assert divisor(wide, middle) == pytest.approx(0.8, rel=1e-5)


def test_the_clarifying_token_comes_once_and_if_it_is_possible() -> None:
    asking, vocabulary = Entropix(clarify=7), Vocabulary(64)
    even = Candidates(EVEN)
    assert asking(even, vocabulary.prompt([0])).ids.tolist() == [7]
    assert len(asking(even, vocabulary.prompt([0]) + 7)) == 64  # it has just been said
    assert asking(even, vocabulary.prompt([0]) + [7, 1]).ids.tolist() == [7]
    assert len(asking(even.without(np.array([7])), vocabulary.prompt([0]))) == 63
    impossible = np.where(np.arange(64) == 7, -INF, 0.0)
    assert len(asking(Candidates(impossible), vocabulary.prompt([0]))) == 64


def test_nan_is_called_nan() -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        Entropix()(Candidates(np.array([np.nan, 1, 2], np.float32)), Vocabulary(3).root)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Entropix(temperature=0.0), "`temperature` of `entropix`"),
        (lambda: Entropix(low_entropy=-1.0), "`low_entropy`"),
        (lambda: Entropix(high_entropy=0.05), "`high_entropy` of `entropix` must be at least `low_entropy`, got 0.05"),
        (lambda: Entropix(low_varentropy=-1.0), "`low_varentropy`"),
        (lambda: Entropix(high_varentropy=0.05), "`high_varentropy`"),
        (lambda: Entropix(clarify=-1), "`clarify` of `entropix` must be a token id, or None"),
    ],
)
def test_configuration_errors_name_the_parameter(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
