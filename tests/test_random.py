"""Random streams: a function of their key, and a choice whose law is exact where blocks of a row meet."""

from __future__ import annotations

import pickle
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Random
from ovdecode.numerics import pick


def draws(rng: Random, count: int = 5) -> list[float]:
    return [rng.uniform() for _ in range(count)]


def test_the_key_decides() -> None:
    assert draws(Random(0, [1, 2], 0)) == draws(Random(0, [1, 2], 0))
    keys = [(0, [1, 2], 0), (1, [1, 2], 0), (0, [1, 2], 1), (0, [2, 1], 0), (0, [1], 2, 0), (0, [12], 0)]
    assert len({tuple(draws(Random(*key))) for key in keys}) == len(keys)


def test_streams_do_not_disturb_each_other() -> None:
    alone = draws(Random(7))
    one, other, mixed = Random(7), Random(8), []
    np.random.default_rng(0).random()
    for _ in range(5):
        other.uniform()
        mixed.append(one.uniform())
        other.gumbel(3)
    assert mixed == alone


def test_a_split_is_the_same_each_time_and_takes_nothing() -> None:
    rng = Random(3)
    first = draws(rng.split(0))
    assert draws(rng) == draws(Random(3))
    assert draws(rng.split(0)) == first == draws(Random(3).split(0))
    others = [rng.split(1), rng.split(0).split(0), rng.split(0).split(1), Random(3), Random(4).split(0)]
    assert len({tuple(first), *(tuple(draws(each)) for each in others)}) == 6


def test_numbers_are_between_0_and_1_and_look_even() -> None:
    rng = Random("even")
    numbers = np.array(draws(rng, 20_000))
    assert (numbers.min() >= 0, numbers.max() < 1) == (True, True)
    counts = np.histogram(numbers, 10, (0, 1))[0]
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 40  # chi-square, 9 degrees: 1 in 100,000
    assert sum(rng.flip(0.25) for _ in range(10_000)) == pytest.approx(2500, abs=220)
    assert not any(rng.flip(0.0) for _ in range(100))
    assert all(rng.flip(1.0) for _ in range(100))


def test_gumbel_has_its_mean_and_spread() -> None:
    numbers = Random(0).gumbel(50_000)
    assert numbers.shape == (50_000,)
    assert float(numbers.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(numbers.var()) == pytest.approx(np.pi**2 / 6, abs=0.07)


def test_a_stream_is_not_stored() -> None:
    with pytest.raises(TypeError, match="store its key"):
        pickle.dumps(Random(1, 2))
    assert repr(Random(1, 2)) == "Random(1, 2)"


def borders(weights: list[int]) -> list[Fraction]:
    """The exact cumulative probability before each index, and 1."""
    total, running, found = sum(weights), 0, [Fraction(0)]
    for weight in weights:
        running += weight
        found.append(Fraction(running, total))
    return found


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 1000, 1024])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_choice_is_exact_on_both_sides_of_every_border(size: int, kind: Any) -> None:
    """With whole weights that sum to a power of two, every border is a number that a stream can give."""
    weights = np.random.default_rng(size).integers(0, 4, size).tolist()
    weights[-1] += 4096 - sum(weights)
    row = np.array(weights, kind)
    cuts = borders(weights)
    for index, (low, high) in enumerate(pairwise(cuts)):
        if low < high:
            assert pick(row, float(low)) == index
            assert pick(row, float(np.nextafter(float(high), 0))) == index


@given(st.lists(st.integers(0, 3), min_size=1, max_size=700).filter(any), st.floats(0, 1, exclude_max=True))
def test_a_choice_is_never_impossible_and_lies_where_it_must(weights: list[int], uniform: float) -> None:
    index = pick(np.array(weights, np.float32), uniform)
    cuts = borders(weights)
    assert weights[index] > 0
    margin = Fraction(1, 10**12)
    assert cuts[index] - margin <= Fraction(uniform) < cuts[index + 1] + margin


@pytest.mark.parametrize("place", [0, 1, 255, 256, 257, 511, 512, 900, 999])
def test_the_only_possible_one_is_chosen(place: int) -> None:
    weights = np.zeros(1000, np.float32)
    weights[place] = 1e-30
    for uniform in (0.0, 0.5, float(np.nextafter(1, 0))):
        assert pick(weights, uniform) == place


def test_choose_takes_one_number_of_the_stream() -> None:
    rng, same = Random(5), Random(5)
    chosen = [rng.choose(np.array([1.0, 2.0, 1.0])) for _ in range(2000)]
    assert chosen == [int(np.searchsorted([0.25, 0.75], number, "right")) for number in draws(same, 2000)]
    assert np.bincount(chosen).tolist() == pytest.approx([500, 1000, 500], abs=120)


def test_weights_are_not_changed() -> None:
    weights = np.ones(600, np.float32)
    weights.flags.writeable = False
    assert 0 <= Random(0).choose(weights) < 600


def test_a_branch_is_the_same_whatever_kind_of_number_names_it() -> None:
    assert Random(1).split(np.int64(1)).uniform() == Random(1).split(1).uniform()  # type: ignore[arg-type]
