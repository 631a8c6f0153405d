from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    BestOfN,
    Greedy,
    Mbr,
    Model,
    Random,
    Sampling,
    SelfConsistency,
    Sequence,
    StopString,
    Strategy,
    SuppressedTokens,
    TableRunner,
    TokenF1,
)
from ovdecode.stopping import Stop
from ovdecode.strategies.several import decodings, finish, shown_text
from ovdecode.strategy import Decoding

COIN = Model(TableRunner({(): np.log([0.5, 0.25, 0.25])}))


SAMPLES = Sampling()


def of(name: str, n: int, strategy: Strategy = SAMPLES, **options: object) -> Strategy:
    kinds = {"best_of_n": BestOfN, "self_consistency": SelfConsistency, "mbr": Mbr}
    own: dict[str, object] = {"mbr": {"utility": TokenF1()}, "self_consistency": {"pattern": "(.)$"}}.get(name, {})
    return kinds[name](n=n, strategy=strategy, **own, **options)


ALL = pytest.mark.parametrize("name", ["best_of_n", "self_consistency", "mbr"])


@ALL
def test_a_decoding_does_not_depend_on_how_many_there_are(name: str) -> None:
    few, many = (COIN.generate([0], of(name, n), max_new_tokens=4).alternatives for n in (3, 12))
    texts, more = (Counter(each.tokens for each in alternatives) for alternatives in (few, many))
    assert (len(few), len(many)) == (3, 12)
    assert texts <= more
    assert len(more) > 3


@ALL
def test_all_run_in_one_batch(name: str) -> None:
    assert COIN.generate([0], of(name, 6), max_new_tokens=5).cost.forwards == 5


@ALL
def test_one_decoding_is_that_one(name: str) -> None:
    generation = COIN.generate([0], of(name, 1), max_new_tokens=5)
    alone = COIN.generate([0], BestOfN(n=1), max_new_tokens=5)
    assert [each.tokens for each in generation.alternatives] == [alone.tokens]


@ALL
def test_any_strategy_inside_with_processors_before_its_own(name: str) -> None:
    method = of(name, 2, BeamSearch(num_beams=2), processors=SuppressedTokens([0]))
    assert COIN.generate([0], method, max_new_tokens=2).tokens == (1, 1)
    nested = of(name, 2, of("best_of_n", 3, Greedy()))
    assert COIN.generate([0], nested, max_new_tokens=2).tokens == (0, 0)


@pytest.mark.parametrize("name", ["self_consistency", "mbr"])
def test_all_that_a_decoding_returns_or_its_best_alone(name: str) -> None:
    beams = BeamSearch(num_beams=3, num_return_sequences=3)
    assert len(COIN.generate([0], of(name, 1, beams), max_new_tokens=2).alternatives) == 1
    generation = COIN.generate([0], of(name, 1, beams, alternatives=True), max_new_tokens=2)
    assert len({each.tokens for each in generation.alternatives}) == 3


@dataclass(frozen=True)
class Forced(Strategy):
    """Tokens of which the model was never asked."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        yield from ()
        return prompt + [0, 1]


@dataclass(frozen=True)
class Shown(Strategy):
    """Hands out what the helpers make of one forced decoding."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        running = decodings(Forced(), 2, prompt, stop, rng, processors=self.processors)
        (one,), (other,) = yield from finish(running)
        assert one is other
        assert one.logprob == pytest.approx(np.log(0.5 * 0.25))
        assert shown_text(one, stop) == "a"
        return one


def test_probability_is_known_and_a_stop_string_is_cut_off() -> None:
    generation = COIN.generate([0], Shown(), stop=StopString("b"))
    assert generation.text == "a"
    assert generation.tokens == (0, 1)
