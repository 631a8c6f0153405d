from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import BeamSearch, DExperts, Greedy, Model, ProxyTuning, Sampling, SuppressedTokens, TableRunner, parse
from ovdecode.errors import ConfigurationError
from ovdecode.testing import distribution


def model(*probabilities: float) -> Model:
    return Model(TableRunner({(): np.log(probabilities)}))


# The nucleus of 0.9 is the first three tokens. The expert doubles token 1, the anti-expert halves it.
BASE, EXPERT, ANTI = model(0.5, 0.25, 0.2, 0.05), model(0.2, 0.4, 0.2, 0.2), model(0.2, 0.1, 0.2, 0.5)


def law(strategy: Any) -> dict[int, float]:
    return {token: p for (token,), p in distribution(strategy, BASE, [0], max_new_tokens=1).items()}


def shares(*weights: float) -> Any:
    return pytest.approx({token: weight / math.fsum(weights) for token, weight in enumerate(weights)}, abs=1e-6)


def test_experts_multiply_by_the_power_of_their_ratio() -> None:
    # base · (expert / anti-expert)^alpha: ratios 1, 4, 1.
    assert law(DExperts(EXPERT, ANTI, 1.0)) == shares(0.5, 1.0, 0.2)
    assert law(DExperts(EXPERT, ANTI)) == shares(0.5, 4.0, 0.2)
    assert law(DExperts(EXPERT, ANTI, 0.0)) == shares(0.5, 0.25, 0.2)


def test_the_model_stands_for_an_expert_that_is_left_out() -> None:
    # base · (base / anti-expert) and base · (expert / base).
    assert law(DExperts(anti_expert=ANTI, alpha=1.0)) == shares(0.5 * 2.5, 0.25 * 2.5, 0.2 * 1.0)
    assert law(DExperts(EXPERT, alpha=1.0)) == shares(0.2, 0.4, 0.2)


def test_the_nucleus_is_the_models_own() -> None:
    assert law(DExperts(EXPERT, ANTI, 1.0, filter_p=1.0)) == shares(0.5, 1.0, 0.2, 0.05 * 0.4)
    assert law(DExperts(EXPERT, ANTI, 1.0, filter_p=0.5)) == {0: 1.0}
    # Without token 0, tokens 1 and 2 have 0.9 of the mass.
    nucleus = law(DExperts(EXPERT, ANTI, 1.0, filter_p=0.8, processors=SuppressedTokens([0])))
    assert sorted(nucleus) == [1, 2]


def test_tuning_by_proxy_adds_the_difference() -> None:
    assert law(ProxyTuning(EXPERT, ANTI, strategy=Sampling())) == shares(0.5, 1.0, 0.2, 0.05 * 0.4)
    assert BASE.generate([0], ProxyTuning(EXPERT, ANTI), max_new_tokens=2).tokens == (1, 1)
    assert BASE.generate([0], ProxyTuning(EXPERT, ANTI, 0.0), max_new_tokens=1).tokens == (0,)


def test_what_the_model_holds_to_be_impossible_stays_so() -> None:
    base = Model(TableRunner({(): [-math.inf, 0.0]}))
    sure, not_at_all = Model(TableRunner({(): [9.0, 0.0]})), Model(TableRunner({(): [-math.inf, 0.0]}))
    assert base.generate([0], ProxyTuning(sure, not_at_all), max_new_tokens=1).tokens == (1,)


def test_a_model_costs_an_inference() -> None:
    for strategy, models in ((DExperts(EXPERT), 2), (DExperts(EXPERT, ANTI), 3), (ProxyTuning(EXPERT, ANTI), 3)):
        assert BASE.generate([0], strategy, max_new_tokens=2).cost.forwards == 2 * models


def test_spec_round_trip() -> None:
    for spec in (
        "dexperts:anti_expert=rude,alpha=3.2",
        "proxy_tuning:strategy=(beam:num_beams=2),tuned=small_chat,untuned=small",
    ):
        assert str(parse(spec)) == spec
    assert parse("proxy_tuning:tuned=a,untuned=b,strategy=(beam)") == ProxyTuning("a", "b", strategy=BeamSearch())


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: DExperts(), "expert"),
        (lambda: DExperts(3), "expert"),  # type: ignore[arg-type]
        (lambda: DExperts("a", 3), "anti_expert"),  # type: ignore[arg-type]
        (lambda: DExperts("a", alpha=-1.0), "alpha"),
        (lambda: DExperts("a", filter_p=0.0), "filter_p"),
        (lambda: ProxyTuning(3, "a"), "tuned"),  # type: ignore[arg-type]
        (lambda: ProxyTuning("a", None), "untuned"),  # type: ignore[arg-type]
        (lambda: ProxyTuning("a", "b", math.inf), "alpha"),
    ],
)
def test_a_parameter_out_of_range_is_named(build: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{named}` of `"):
        build()


def test_a_real_model_is_steered_by_itself_to_nowhere(model: Model) -> None:
    prompt = "The capital of France is"
    greedy = model.generate(prompt, Greedy(), max_new_tokens=6)
    for strategy in (ProxyTuning(model, model), DExperts(model, model, strategy=Greedy())):
        generation = model.generate(prompt, strategy, max_new_tokens=6)
        assert generation.tokens == greedy.tokens
        assert generation.token_logprobs == greedy.token_logprobs
