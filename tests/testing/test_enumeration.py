from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from ovdecode import Model, Random, Sampling, Sequence, Strategy, TableRunner
from ovdecode.errors import StrategyError
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding
from ovdecode.testing.enumeration import Choices, distribution

COIN = Model(TableRunner({(): np.log([0.75, 0.25])}))


@dataclass(frozen=True)
class Play(Strategy):
    """Appends the token that a function of the random numbers gives."""

    rule: Callable[[Random], int] = lambda rng: 0

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        yield prompt
        return prompt + self.rule(rng)


def play(rule: Callable[[Random], int]) -> dict[tuple[int, ...], float]:
    return distribution(Play(rule), COIN, [0], max_new_tokens=1)


def test_sampling_of_a_coin() -> None:
    exact = distribution(Sampling(), COIN, [0], max_new_tokens=2)
    assert exact == pytest.approx({(0, 0): 9 / 16, (0, 1): 3 / 16, (1, 0): 3 / 16, (1, 1): 1 / 16})


def test_greedy_is_certain() -> None:
    assert distribution("greedy", COIN, [0], max_new_tokens=3) == {(0, 0, 0): 1.0}


def test_a_stop_ends_a_path() -> None:
    exact = distribution(Sampling(), COIN, [0], max_new_tokens=3, stop="stop_tokens:sequences=[[1]]")
    assert exact == pytest.approx({(1,): 1 / 4, (0, 1): 3 / 16, (0, 0, 1): 9 / 64, (0, 0, 0): 27 / 64})


def test_probabilities_sum_to_one() -> None:
    model = Model(TableRunner(lambda tokens: np.random.default_rng(tokens).standard_normal(5)))
    assert math.fsum(distribution(Sampling(), model, [0], max_new_tokens=4).values()) == pytest.approx(1, abs=1e-9)


def test_flips_are_enumerated_with_their_probability() -> None:
    assert play(lambda rng: int(rng.flip(0.3))) == pytest.approx({(0,): 0.7, (1,): 0.3})


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_certain_flip_has_one_path(probability: float) -> None:
    assert play(lambda rng: int(rng.flip(probability))) == {(int(probability),): 1.0}


def test_impossible_outcomes_are_no_paths() -> None:
    assert play(lambda rng: rng.choose(np.array([0.0, 2.0]))) == {(1,): 1.0}


def test_the_number_of_choices_may_depend_on_choices() -> None:
    exact = play(lambda rng: int(rng.flip(0.5) and rng.flip(0.5) and rng.flip(0.5)))
    assert exact == {(0,): 0.875, (1,): 0.125}


def test_branches_choose_independently() -> None:
    assert play(lambda rng: int(rng.split(0).flip(0.5) != rng.split(1).flip(0.5))) == {(0,): 0.5, (1,): 0.5}


@pytest.mark.parametrize("rule", [lambda rng: int(rng.uniform() < 0.5), lambda rng: int(rng.gumbel(2).argmax())])
def test_continuous_noise_is_an_error(rule: Callable[[Random], int]) -> None:
    with pytest.raises(StrategyError, match=r"continuous noise .* can't be enumerated"):
        play(rule)


def test_hidden_state_is_an_error() -> None:
    calls: list[int] = []

    def rule(rng: Random) -> int:
        calls.append(0)
        return min(rng.choose(np.ones(len(calls))), 1) if len(calls) > 1 else rng.choose(np.ones(3)) % 2

    with pytest.raises(StrategyError, match="as many outcomes in every run"):
        play(rule)


def test_an_error_of_the_strategy_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        play(lambda rng: 1 // 0)


def test_choices_walk_depth_first() -> None:
    choices, paths = Choices(), []
    while True:
        paths.append((choices.choose(np.ones(2)), choices.choose(np.array([1.0, 0.0, 3.0])), choices.probability))
        if not choices.advance():
            break
    assert paths == [(0, 0, 0.125), (0, 2, 0.375), (1, 0, 0.125), (1, 2, 0.375)]
