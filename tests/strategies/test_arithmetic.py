from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from search_tables import complete, noise, noise_model

from ovdecode import ArithmeticSampling, Candidates, Eos, MaxNewTokens, Model, Random, Sampling, TableRunner, TopK
from ovdecode.blocks import Blocks
from ovdecode.errors import ConfigurationError
from ovdecode.strategies.arithmetic import Code, decode_code
from ovdecode.testing import distribution, law_distribution


def decode(model: Model, code: float, length: int) -> tuple[int, ...]:
    """The tokens that one code stands for."""
    stop = MaxNewTokens(length) | Eos()
    decoding = decode_code(Sampling(), code, model.vocabulary.prompt([0]), stop, Random("bits"))
    try:
        asked = next(decoding)
        while True:
            asked = decoding.send(np.asarray(model.runner._look_up(tuple(asked.tokens.tolist())), np.float32))
    except StopIteration as finished:
        return tuple(finished.value.generated.tolist())


def test_a_code_falls_into_the_part_of_one_token() -> None:
    def fall(law: Candidates, place: float) -> tuple[int, float]:
        code = Code(place, Random("bits"))
        return law.draw(code), code.place

    row = np.log([0.5, 0.25, 0.125, 0.125])
    blocks = Candidates(row, blocks=Blocks(row[::2], np.array([1.5, 0.5])))
    for law in (Candidates(row), blocks):  # the parts are in the order of ids, whatever is chosen first
        assert fall(law, 0.25) == pytest.approx((0, 0.5))
        assert fall(law, 0.5) == pytest.approx((1, 0.0))
        assert fall(law, 0.9375) == pytest.approx((3, 0.5))
    for law in (Candidates(row), blocks):
        assert fall(law.divided(0.5), 0.9) == pytest.approx((1, (0.9 * 22 - 16) / 4))  # 16, 4, 1, 1: no part on trial
    assert fall(blocks.at(np.array([0, 2])), 0.9) == pytest.approx((2, 0.5))


@pytest.mark.parametrize("seed", range(4))
def test_the_codes_of_a_sequence_measure_its_probability(seed: int) -> None:
    """The intervals are laid end to end, in the order of tokens; just inside both ends lies the sequence."""
    model, begin = noise_model(seed, 3), 0.0
    found = sorted(complete(noise(seed, 3), 3, 3, eos=2))
    for tokens, logprob in found:
        length = math.exp(logprob)
        edge = min(1e-6, length / 4)
        for code in (begin + edge, begin + length / 2, begin + length - edge):
            assert decode(model, code, 3) == tokens
        begin += length
    assert begin == pytest.approx(1.0)
    assert {tokens: math.exp(logprob) for tokens, logprob in found} == pytest.approx(
        distribution(Sampling(), model, [0], max_new_tokens=3), rel=1e-4
    )


def test_each_alternative_has_the_law_of_sampling() -> None:
    """Integrated over the shift by the midpoints of a fine grid: each end of an interval is off by one point."""
    model, points = noise_model(5, 3), 400
    law = distribution(Sampling(), model, [0], max_new_tokens=2)
    counts = [Counter[tuple[int, ...]]() for _ in range(3)]
    for point in range(points):
        start = (point + 0.5) / points
        for count, code in zip(counts, [(start + index / 3) % 1.0 for index in range(3)], strict=True):
            count[decode(model, code, 2)] += 1
    for count, tokens in itertools.product(counts, law):
        assert abs(count[tokens] / points - law[tokens]) <= 2 / points
    law_distribution(ArithmeticSampling(3), law, model, [0], samples=2000)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.999])
def test_a_sequence_is_found_as_often_as_its_probability_says(start: float) -> None:
    model, n = noise_model(7, 3), 10
    law = distribution(Sampling(), model, [0], max_new_tokens=2)
    found = Counter(decode(model, (start + index / n) % 1.0, 2) for index in range(n))
    for tokens, probability in law.items():
        assert math.floor(n * probability - 1e-6) <= found[tokens] <= math.ceil(n * probability + 1e-6)


def test_the_strategy_spaces_its_codes_evenly() -> None:
    model = Model(TableRunner({(): [0.0] * 8}))
    for seed in range(5):
        alternatives = model.generate([0], ArithmeticSampling(8), max_new_tokens=1, seed=seed).alternatives
        assert sorted(each.tokens[0] for each in alternatives) == list(range(8))


def test_a_long_text_does_not_run_out_of_bits() -> None:
    model = Model(TableRunner({(): [0.0, 0.0]}))
    ends = set()
    for seed in range(3):
        (generation,) = model.generate([0], ArithmeticSampling(1), max_new_tokens=300, seed=seed).alternatives
        assert 60 < sum(generation.tokens[-200:]) < 140
        ends.add(generation.tokens[-200:])
    assert len(ends) == 3


def test_processors_narrow_the_law() -> None:
    model = noise_model(1, 4, eos=False)
    alternatives = model.generate([0], ArithmeticSampling(4, processors=TopK(1)), max_new_tokens=3).alternatives
    assert {each.tokens for each in alternatives} == {model.generate([0], "greedy", max_new_tokens=3).tokens}


def test_at_least_one_code() -> None:
    with pytest.raises(ConfigurationError, match="`n` of `arithmetic` must be a whole number of at least 1, got 0"):
        ArithmeticSampling(0)


def test_on_a_real_model(model: Model) -> None:
    alternatives = model.generate("Once upon a time", ArithmeticSampling(6), max_new_tokens=6).alternatives
    first = [each.tokens[0] for each in alternatives]
    turn = first.index(min(first))
    assert sorted(first) == first[turn:] + first[:turn]  # codes rise, and so do the tokens that they stand for
