from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    Candidates,
    DoLa,
    Forward,
    Greedy,
    Model,
    Sampling,
    Speculative,
    Strategy,
    SuppressedTokens,
    TableRunner,
    Task,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError
from ovdecode.strategies.dola import divergence
from ovdecode.testing import distribution

# The last layer; one that thinks much the same; and one far from it. Token 3 is implausible.
LAST, NEAR, FAR = [0.50, 0.40, 0.099, 0.001], [0.45, 0.45, 0.099, 0.001], [0.80, 0.15, 0.0499, 0.0001]


def model(**options: Any) -> Model:
    layers = {0: {(): np.log(NEAR)}, 1: {(): np.log(FAR)}, 2: {(): np.log(NEAR)}}
    return Model(TableRunner({(): np.log(LAST)}, layers=layers), **options)


def test_the_divergence_is_half_the_sum_of_two_to_the_mean() -> None:
    # p = (1, 0), q = (1/2, 1/2), mean = (3/4, 1/4): (log(4/3) + log(2/3) / 2 + log(2) / 2) / 2.
    with np.errstate(divide="ignore"):
        found = divergence(Candidates(np.log([1.0, 0.0])), Candidates(np.log([0.5, 0.5])))
    assert found == pytest.approx((math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2)
    assert divergence(Candidates(np.log(LAST)), Candidates(np.log(LAST))) == pytest.approx(0, abs=1e-12)


def test_the_layer_that_differs_the_most_is_set_against_the_last() -> None:
    # Against FAR: 0.625, 2.67, 1.98, and token 3 is shut out. Against NEAR: 1.11, 0.89, 1.
    assert model().generate([0], DoLa([0, 1, 2]), max_new_tokens=1).tokens == (1,)
    assert model().generate([0], DoLa([0, 2]), max_new_tokens=1).tokens == (0,)


def test_what_is_implausible_is_shut_out() -> None:
    assert model().generate([0], DoLa([1], relative_top=0.001), max_new_tokens=1).tokens == (3,)
    assert model().generate([0], DoLa([1], relative_top=0.9), max_new_tokens=1).tokens == (0,)


def test_a_sample_follows_the_softmax_of_the_scores() -> None:
    ratios = [last / far for last, far in zip(LAST[:3], FAR[:3], strict=True)]
    expected = {(token,): ratio / math.fsum(ratios) for token, ratio in enumerate(ratios)}
    found = distribution(DoLa([0, 1], strategy=Sampling()), model(), [0], max_new_tokens=1)
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_layer_is_chosen_at_each_position_anew() -> None:
    flat = [0.0, 0.0, 0.0]
    layers = {0: {(0,): [0.0, 1.0, 0.0], (): flat}, 1: {(0,): flat, (): [0.0, 0.0, 1.0]}}
    table = Model(TableRunner({(0,): [0.0, 2.0, 1.0], (): [0.0, 0.5, 2.0]}, layers=layers))
    found = table.generate([0], DoLa([0, 1], relative_top=0.01), max_new_tokens=2).tokens
    early = [[[0.0, 1.0, 0.0], flat], [flat, [0.0, 0.0, 1.0]]]
    assert found == reference([[0.0, 2.0, 1.0], [0.0, 0.5, 2.0]], early)


def reference(last: list[Any], early: list[Any], relative_top: float = 0.01) -> tuple[int, ...]:
    """The definition, written out with sums over the vocabulary."""
    tokens = []
    for row, layers in zip(last, early, strict=True):
        p = np.exp(np.array(row, np.float64) - np.logaddexp.reduce(row))
        best: tuple[float, Any] = (-1.0, None)
        for layer in layers:
            q = np.exp(np.array(layer, np.float64) - np.logaddexp.reduce(layer))
            m = (p + q) / 2
            both = [np.sum(one[one > 0] * np.log(one[one > 0] / m[one > 0])) for one in (p, q)]
            if sum(both) / 2 > best[0]:
                best = (sum(both) / 2, q)
        scores = np.where(p >= relative_top * p.max(), np.log(p) - np.log(best[1]), -np.inf)
        tokens.append(int(scores.argmax()))
    return tuple(tokens)


@pytest.mark.parametrize(
    ("parameters", "num_layers", "expected"),
    [  # transformers' `_dola_decoding`: tied embeddings begin at 2, others at 0
        ({}, 30, (2, 4, 6, 8, 10, 12, 14)),
        ({"first_layer": 0}, 32, (0, 2, 4, 6, 8, 10, 12, 14)),
        ({}, 60, (2, 4, 6, 8, 10, 12, 14, 16, 18)),
        ({"layers": "high"}, 30, (15, 17, 19, 21, 23, 25, 27, 29)),
        ({"layers": "high"}, 60, (40, 42, 44, 46, 48, 50, 52, 54, 56, 58)),
        ({}, 4, (2,)),
        ({}, 2, (1,)),
        ({"layers": [7, 1]}, 30, (7, 1)),
    ],
)
def test_the_early_layers(parameters: dict[str, Any], num_layers: int, expected: tuple[int, ...]) -> None:
    assert DoLa(**parameters).early_layers(num_layers) == expected


def test_one_inference_a_token() -> None:
    assert model().generate([0], DoLa([0, 1]), max_new_tokens=3).cost.forwards == 3


def test_processors_come_before_plausibility() -> None:
    shut = DoLa([1], processors=SuppressedTokens([0, 1, 2]))
    assert model().generate([0], shut, max_new_tokens=1).tokens == (3,)


def test_alone_and_among_others_that_ask_for_other_layers() -> None:
    shared = model()
    tasks = [Task(shared, [0], DoLa(layers), max_new_tokens=2) for layers in ([0, 2], [0, 1], [2])]
    tasks.append(Task(shared, [0], "greedy", max_new_tokens=2))
    found = {generation.index: generation.tokens for generation in run(tasks)}
    assert found == {0: (0, 0), 1: (1, 1), 2: (0, 0), 3: (0, 0)}


def test_a_layer_that_the_model_lacks_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"`layers` must be among \[0, 1, 2\] of this table, got \[5\]"):
        model().generate([0], DoLa([1, 5]), max_new_tokens=1)


def test_spec_round_trip() -> None:
    for spec in ("dola", "dola:layers=high,relative_top=0.2", "dola:layers=[2,4],first_layer=0"):
        assert str(parse(spec)) == spec
    assert parse("dola:layers=[2,4]") == DoLa([2, 4])


@pytest.mark.parametrize(
    "parameters",
    [
        {"layers": "middle"},
        {"layers": []},
        {"layers": [-1]},
        {"layers": [0.5]},
        {"layers": 3},
        {"first_layer": -1},
        {"relative_top": 0.0},
        {"relative_top": 1.5},
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `dola`"):
        DoLa(**parameters)


def test_a_real_model_against_an_independent_computation(model: Model) -> None:
    prompt, early = model.encode("The largest planet of the solar system is"), DoLa().early_layers(30)

    def guided(inner: Strategy) -> tuple[int, ...]:
        return model.generate(prompt, DoLa(strategy=inner), max_new_tokens=6).tokens

    tokens = guided(Greedy())
    sequence = model.vocabulary.prompt([*prompt, *tokens[:-1]])
    (answer,) = model.runner.forward([Forward(sequence, len(tokens), layers=early)])
    assert answer.layers is not None
    layers = [[answer.layers[layer][place] for layer in early] for place in range(len(tokens))]
    assert tokens == reference(list(answer.logits), layers, 0.1)
    assert tokens != model.generate(prompt, Greedy(), max_new_tokens=6).tokens
    assert guided(Speculative()) == tokens
    assert guided(BeamSearch(num_beams=1)) == tokens
    del sequence
    assert model.runner.cache_in_use == 0


def test_the_logprob_is_what_everybody_notes(model: Model) -> None:
    # Hidden states run on a graph of its own, whose logits have other bits. They were noted on the tree: what was read
    # there depended on whether another task had been at the same sequence before.
    prompt = "The capital of France is"
    guided = model.generate(prompt, DoLa(relative_top=1.0), max_new_tokens=4)
    greedy = model.generate(prompt, Greedy(), max_new_tokens=4)
    assert guided.tokens == greedy.tokens  # only the best token is plausible
    assert guided.token_logprobs == greedy.token_logprobs
