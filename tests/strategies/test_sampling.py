from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    Candidates,
    LogitsProcessor,
    MinP,
    Model,
    RepetitionPenalty,
    Sampling,
    SuppressedTokens,
    TableRunner,
    Task,
    Temperature,
    TopK,
    TopP,
    Typical,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.processor import Chain
from ovdecode.testing import table_model
from ovdecode.testing.enumeration import distribution

# Half, a quarter, an eighth, an eighth: what is kept can be seen.
MODEL = Model(TableRunner({(): np.log([0.5, 0.125, 0.25, 0.125])}))


def law(strategy: Sampling) -> dict[int, float]:
    exact = distribution(strategy, MODEL, [0], max_new_tokens=1)
    return {token: probability for (token,), probability in exact.items()}


def test_plain_sampling_is_the_model() -> None:
    assert law(Sampling()) == pytest.approx({0: 0.5, 1: 0.125, 2: 0.25, 3: 0.125})


def test_temperature_squares_the_weights() -> None:
    weights = {0: 16, 1: 1, 2: 4, 3: 1}  # squares of 4 : 1 : 2 : 1
    assert law(Sampling(temperature=0.5)) == pytest.approx({token: w / 22 for token, w in weights.items()})


def test_top_k() -> None:
    assert law(Sampling(top_k=2)) == pytest.approx({0: 2 / 3, 2: 1 / 3})


def test_top_p_keeps_the_crossing_token() -> None:
    assert law(Sampling(top_p=0.6)) == pytest.approx({0: 2 / 3, 2: 1 / 3})


def test_min_p() -> None:
    assert law(Sampling(min_p=0.5)) == pytest.approx({0: 2 / 3, 2: 1 / 3})


def test_typical_may_leave_out_the_best() -> None:
    assert law(Sampling(typical=0.2)) == {2: 1.0}


def test_all_parameters_are_applied_in_the_order_of_transformers() -> None:
    strategy = Sampling(0.5, 3, 0.9, 0.1, 0.95)
    assert strategy.chain.stages == (Temperature(0.5), TopK(3), TopP(0.9), MinP(0.1), Typical(0.95))


def test_processors_come_first() -> None:
    strategy = Sampling(temperature=0.5, processors=TopK(2) | RepetitionPenalty(1.5))
    assert strategy.chain.stages == (TopK(2), RepetitionPenalty(1.5), Temperature(0.5))


def test_the_order_matters() -> None:
    # First top-p 0.7 of (4 2 1 1)/8 keeps two; of its squares (16 4 1 1)/22 it keeps one.
    assert set(law(Sampling(processors=TopP(0.7) | Temperature(0.5)))) == {0, 2}
    assert set(law(Sampling(processors=Temperature(0.5) | TopP(0.7)))) == {0}


@pytest.mark.parametrize(
    "chain",
    [Chain(), Temperature(0.7), TopK(2) | Temperature(2.0), TopP(0.8), RepetitionPenalty(1.3) | TopK(3)],
)
def test_the_law_is_softmax_of_the_chain_at_every_step(chain: LogitsProcessor) -> None:
    runner = TableRunner(lambda tokens: np.random.default_rng(tokens).standard_normal(4))
    model = Model(runner)
    expected = {}
    for tokens in itertools.product(range(4), repeat=3):
        probability, sequence = 1.0, model.vocabulary.prompt([1])
        for token in tokens:
            row = np.array(runner._look_up(tuple(sequence)), np.float32)
            probability *= chain(Candidates(row), sequence).distribution(4)[token]
            sequence += token
        if probability:
            expected[tokens] = probability
    assert distribution(Sampling(processors=chain), model, [1], max_new_tokens=3) == pytest.approx(expected, abs=1e-6)


def test_a_seed_gives_the_same_tokens_alone_and_among_others() -> None:
    alone = [MODEL.generate([0], Sampling(), seed=seed, max_new_tokens=16).tokens for seed in range(8)]
    tasks = [Task(MODEL, [0], Sampling(), seed=seed, max_new_tokens=16) for seed in reversed(range(8))]
    together = {generation.task.seed: generation.tokens for generation in run(tasks)}
    assert [together[seed] for seed in range(8)] == alone
    assert len(set(alone)) > 1


def test_the_stop_ends_it() -> None:
    model = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]), eos_token_ids=[2])
    generation = model.generate([0], Sampling(top_k=1))
    assert generation.tokens == (1, 2)
    assert str(generation.stop_reason).startswith("eos")


def test_text_is_streamed_token_by_token() -> None:
    assert list(MODEL.stream([0], Sampling(top_k=1), max_new_tokens=3)) == ["a", "a", "a"]


def test_all_logits_minus_infinity_is_an_error() -> None:
    model = Model(TableRunner({(): [0.0, -np.inf], (1,): [0.0, 1.0]}))
    with pytest.raises(LogitsError):
        model.generate([0], Sampling(processors=SuppressedTokens([0])), max_new_tokens=1)


@pytest.mark.parametrize(
    "spec", ["sampling", "sampling:temperature=0.8,top_p=0.95", "sampling:processors=(top_k:k=3|top_p:p=0.5)"]
)
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec
    assert parse(str(parse(spec))) == parse(spec)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"typical": 0.0}, "typical"),
        ({"top_n_sigma": 0.0}, "top_n_sigma"),
        ({"dry_multiplier": -1.0}, "dry_multiplier"),
        ({"xtc_probability": 2.0}, "xtc_probability"),
        ({"xtc_probability": 0.5, "xtc_threshold": 0.9}, "xtc_threshold"),
        ({"top_p": 1.5, "preset": "fairseq"}, "top_p"),
        ({"temperature": -1.0, "preset": "hf"}, "temperature"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any], named: str) -> None:
    """It was once named as the processor's: `temperature` of `temperature`, `k` of `top_k`."""
    with pytest.raises(ConfigurationError, match=f"^`{named}` of `sampling` must be "):
        Sampling(**parameters)


@pytest.mark.parametrize("temperature", ["1e-300", "1e-39", "1e-12"])
def test_nearly_no_temperature_is_greedy(temperature: str) -> None:
    model = table_model()
    cold = model.generate([0], f"sampling:temperature={temperature}", max_new_tokens=5)
    assert cold.error is None
    assert cold.tokens == model.generate([0], "greedy", max_new_tokens=5).tokens
