from __future__ import annotations

import itertools

import numpy as np
import pytest
from search_tables import Rows, noise, noise_model

from ovdecode import BestFirstBeamSearch, Model, SuppressedTokens, TableRunner
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.numerics import log_softmax


def beam_search(
    rows: Rows, vocab: int, eos: int, beams: int, bound: int
) -> tuple[list[tuple[float, tuple[int, ...]]], int]:
    """The paper's beam search, in which finished sequences keep their place; and how many sequences it extends."""
    beam, extended = [(0.0, ())], 0
    for _ in range(bound):
        found = []
        for score, tokens in beam:
            if tokens[-1:] == (eos,):
                found.append((score, tokens))
                continue
            extended += 1
            for token, each in enumerate(log_softmax(rows((0, *tokens)).astype(np.float64))):
                found.append((score + float(each), (*tokens, token)))
        beam = sorted(found, key=lambda each: -each[0])[:beams]
        if all(tokens[-1] == eos for _, tokens in beam):
            break
    return beam, extended


def test_the_beam_of_breadth_first_search_with_fewer_extensions() -> None:
    saved = 0
    for seed, beams, bound in itertools.product(range(25), (1, 2, 3, 5), (1, 2, 4, 6)):
        expected, extended = beam_search(noise(seed, 5), 5, 4, beams, bound)
        strategy = BestFirstBeamSearch(beams, beams, batch_size=1)
        generation = noise_model(seed, 5).generate([0], strategy, max_new_tokens=bound)
        assert [each.tokens for each in generation.alternatives] == [tokens for _, tokens in expected]
        scores = [score for score, _ in expected]
        assert [each.score for each in generation.alternatives] == pytest.approx(scores, abs=1e-4)
        assert generation.cost.forwards <= extended
        saved += extended - generation.cost.forwards
    assert saved > 0


def test_one_answer_takes_fewer_extensions_still() -> None:
    """The first sequence to come out finished is the best of the beam."""
    model = Model(TableRunner({(): np.log([0.05, 0.05, 0.9])}), [2])
    generation = model.generate([0], BestFirstBeamSearch(3, batch_size=1), max_new_tokens=10)
    assert generation.tokens == (2,)
    assert generation.cost.forwards == 1


def test_the_answer_does_not_depend_on_how_many_are_asked_about_at_once() -> None:
    fewer = 0
    for seed in range(10):
        model = noise_model(seed, 6, 0.7)
        one = model.generate([0], BestFirstBeamSearch(4, 4, batch_size=1), max_new_tokens=5)
        many = model.generate([0], BestFirstBeamSearch(4, 4, batch_size=4), max_new_tokens=5)
        assert one.alternatives == many.alternatives
        fewer += one.cost.forwards - many.cost.forwards
    assert fewer > 0


def test_processors_and_dead_ends_inside() -> None:
    rows = {(2,): np.log([0.6, 0.3, 0.1]), (0,): [-np.inf, -np.inf, 0.0], (1,): [-np.inf, 1.0, -np.inf]}
    strategy = BestFirstBeamSearch(2, processors=SuppressedTokens([2]))
    assert Model(TableRunner(rows)).generate([2], strategy, max_new_tokens=3).tokens == (1, 1, 1)
    with pytest.raises(LogitsError, match="`best_first` leave no token possible"):
        Model(TableRunner({(): [0.0, 0.0]})).generate(
            [0], BestFirstBeamSearch(2, processors=SuppressedTokens([0, 1])), max_new_tokens=3
        )


@pytest.mark.parametrize("parameters", [{"num_beams": 0}, {"num_return_sequences": 5}, {"batch_size": 0}])
def test_a_parameter_out_of_range_is_named(parameters: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `best_first` must be"):
        BestFirstBeamSearch(**parameters)


def test_on_a_real_model(model: Model) -> None:
    prompt = "The capital of France is"
    one = model.generate(prompt, BestFirstBeamSearch(1), max_new_tokens=6)
    assert one.tokens == model.generate(prompt, "greedy", max_new_tokens=6).tokens
    three = model.generate(prompt, BestFirstBeamSearch(3), max_new_tokens=6)
    assert three.logprob >= one.logprob - 1e-6
