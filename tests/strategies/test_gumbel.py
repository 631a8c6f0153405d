from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from search_tables import noise_model

from ovdecode import GumbelSampling, Model, Random, Sampling, Speculative, TableRunner, TopK, parse
from ovdecode.noise import GumbelNoise
from ovdecode.testing import distribution, law_distribution


class Fixed(Random):
    """Noise known beforehand."""

    def __init__(self, *noise: list[float]) -> None:
        super().__init__()
        self.noise = list(noise)

    def gumbel_noise(self) -> GumbelNoise:
        noise = np.array(self.noise.pop(0))

        class Known(GumbelNoise):
            def of(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
                return noise[tokens]  # type: ignore[no-any-return]

        return Known(np.zeros(1, np.uint64))


def test_the_largest_sum_of_logit_and_noise_wins() -> None:
    vocabulary = Model(TableRunner({(): [0.0, 0.0, 0.0]})).vocabulary
    prompt = vocabulary.prompt([0])
    rng = Fixed([0.0, 1.9, 0.0], [0.0, 2.1, 0.0], [0.1, 0.1, -3.0])
    decoding = GumbelSampling().decode(prompt, lambda sequence: sequence.generated_length == 3 or None, rng)
    next(decoding)
    logits = np.array([2.0, 0.0, 1.0], np.float32)
    for _ in range(2):
        decoding.send(logits)
    with pytest.raises(StopIteration) as finished:
        decoding.send(logits)
    assert finished.value.value.generated.tolist() == [0, 1, 0]


def test_its_law_is_that_of_sampling() -> None:
    model = noise_model(1, 3)
    for strategy in (Sampling(), Sampling(temperature=0.6, top_k=2)):
        expected = distribution(strategy, model, [0], max_new_tokens=2)
        law_distribution(GumbelSampling(strategy), expected, model, [0], samples=3000)


def test_the_samples_tell_a_wrong_law() -> None:
    model = noise_model(1, 3)
    expected = distribution(Sampling(), model, [0], max_new_tokens=2)
    with pytest.raises(AssertionError, match="of 3000 samples"):
        law_distribution(GumbelSampling(Sampling(temperature=0.6)), expected, model, [0], samples=3000)


def test_its_law_can_be_verified_speculatively() -> None:
    model = noise_model(2, 3)
    expected = distribution(Sampling(), model, [0, 1, 0, 1], max_new_tokens=2)
    law_distribution(Speculative(GumbelSampling()), expected, model, [0, 1, 0, 1])


def test_processors_come_before_those_of_the_strategy() -> None:
    model = Model(TableRunner({(): [3.0, 2.0, 1.0]}))
    strategy = GumbelSampling(Sampling(top_k=1), processors=TopK(2))
    assert model.generate([0], strategy, max_new_tokens=3).tokens == (0, 0, 0)
    assert parse(str(strategy)) == strategy


def test_on_a_real_model(model: Model) -> None:
    greedy = model.generate("The capital of France is", "greedy", max_new_tokens=6)
    cold = model.generate("The capital of France is", GumbelSampling(Sampling(temperature=1e-6)), max_new_tokens=6)
    assert cold.tokens == greedy.tokens
