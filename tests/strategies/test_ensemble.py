from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import BeamSearch, Ensemble, Greedy, Model, Sampling, TableRunner, parse
from ovdecode.errors import ConfigurationError, StrategyError
from ovdecode.testing import distribution


def model(*probabilities: float) -> Model:
    with np.errstate(divide="ignore"):
        return Model(TableRunner({(): np.log(probabilities)}))


ONE, TWO, THREE = model(0.7, 0.2, 0.1), model(0.1, 0.2, 0.7), model(0.25, 0.5, 0.25)


def law(*models: Model, **parameters: Any) -> dict[int, float]:
    first, *others = models
    found = distribution(Ensemble(others, strategy=Sampling(), **parameters), first, [0], max_new_tokens=1)
    return {token: p for (token,), p in found.items()}


def shares(*weights: float) -> Any:
    return pytest.approx({token: weight / math.fsum(weights) for token, weight in enumerate(weights)}, abs=1e-6)


def test_a_product_is_the_geometric_mean() -> None:
    assert law(ONE, TWO) == shares(math.sqrt(0.07), 0.2, math.sqrt(0.07))
    assert law(ONE, TWO, THREE) == shares(*(0.7 * 0.1 * 0.25, 0.2 * 0.2 * 0.5, 0.1 * 0.7 * 0.25) ** np.array(1 / 3))


def test_a_mixture_is_the_arithmetic_mean() -> None:
    assert law(ONE, TWO, kind="mixture") == shares(0.4, 0.2, 0.4)
    assert law(ONE, TWO, THREE, kind="mixture") == shares(1.05, 0.9, 1.05)


def test_only_the_ratios_of_the_weights_count() -> None:
    for weights in ([3, 1], [0.75, 0.25], (30.0, 10.0)):
        assert law(ONE, TWO, weights=weights) == shares(0.7**0.75 * 0.1**0.25, 0.2, 0.1**0.75 * 0.7**0.25)
        assert law(ONE, TWO, weights=weights, kind="mixture") == shares(0.55, 0.2, 0.25)


def test_one_can_forbid_in_a_product_and_only_all_in_a_mixture() -> None:
    never = model(0.0, 0.5, 0.5)
    assert sorted(law(ONE, never)) == sorted(law(never, ONE)) == [1, 2]
    assert sorted(law(ONE, never, weights=[1, 1e-50])) == [1, 2]
    assert law(ONE, never, kind="mixture") == shares(0.35, 0.35, 0.3)
    assert law(never, ONE, kind="mixture") == shares(0.35, 0.35, 0.3)
    assert sorted(law(never, never, kind="mixture")) == [1, 2]


def test_a_model_with_itself_is_itself() -> None:
    for kind in ("product", "mixture"):
        assert law(ONE, ONE, kind=kind) == shares(0.7, 0.2, 0.1)


def test_beams_rank_by_the_joint_probability() -> None:
    generation = ONE.generate([0], Ensemble([TWO], kind="mixture", strategy=BeamSearch()), max_new_tokens=2)
    assert generation.tokens == (0, 0)
    assert generation.score == pytest.approx(math.log(0.4))
    assert generation.logprob == pytest.approx(2 * math.log(0.7))


def test_another_vocabulary_is_an_error() -> None:
    with pytest.raises(StrategyError, match=r"`ensemble` .* vocabulary of 3 tokens, but .* has 2"):
        ONE.generate([0], Ensemble([model(0.5, 0.5)]), max_new_tokens=1)


def test_spec_round_trip() -> None:
    spec = "ensemble:models=[smollm2,other],weights=[1,2,0.5],kind=mixture"
    assert str(parse(spec)) == spec
    assert parse(spec) == Ensemble(["smollm2", "other"], [1, 2, 0.5], "mixture")


@pytest.mark.parametrize(
    "parameters",
    [
        {"models": []},
        {"models": "smollm2"},
        {"models": [3]},
        {"weights": [1]},
        {"weights": [1, 0]},
        {"weights": [1, math.nan]},
        {"weights": 2},
        {"kind": "sum"},
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `ensemble`"):
        Ensemble(**{"models": ["smollm2"], **parameters})


def test_a_real_model_with_itself(model: Model) -> None:
    prompt = "The capital of France is"
    greedy = model.generate(prompt, Greedy(), max_new_tokens=6)
    for kind in ("product", "mixture"):
        generation = model.generate(prompt, Ensemble([model, model], kind=kind), max_new_tokens=6)  # type: ignore[arg-type]
        assert (generation.tokens, generation.token_logprobs) == (greedy.tokens, greedy.token_logprobs)
