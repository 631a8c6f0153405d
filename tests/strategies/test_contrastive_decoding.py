from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    ContrastiveDecoding,
    DraftModel,
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
from ovdecode.errors import ConfigurationError, StrategyError
from ovdecode.testing.enumeration import distribution


def model(*probabilities: float, **options: Any) -> Model:
    return Model(TableRunner({(): np.log(probabilities)}), **options)


# The amateur expects token 0 even more than the expert does. Token 3 is implausible to both.
EXPERT = model(0.50, 0.40, 0.099, 0.001)
AMATEUR = model(0.80, 0.15, 0.0499, 0.0001)


def first(**parameters: Any) -> int:
    return EXPERT.generate([0], ContrastiveDecoding(AMATEUR, **parameters), max_new_tokens=1).tokens[0]


def test_the_token_that_the_expert_adds() -> None:
    # p_expert / p_amateur: 0.625, 2.67, 1.98, and 10 for the token that alpha shuts out (0.001 < 0.1 · 0.5).
    assert first() == 1


def test_alpha_shuts_out_what_is_implausible() -> None:
    assert first(alpha=0.001) == 3
    assert first(alpha=0.1) == 1
    assert first(alpha=0.9) == 0
    assert first(alpha=1.0) == 0


def test_an_equal_of_the_border_is_plausible() -> None:
    assert first(alpha=0.8) == 1  # 0.4 = 0.8 · 0.5


def test_beta_weighs_the_amateur() -> None:
    # (1 + β) log p_expert − β log p_amateur. β = 0 is the expert. Token 1 leads if 0.8 · (0.8 · 16/3)^β > 1.
    assert first(beta=0.0) == 0
    assert first(beta=0.1) == 0
    assert first(beta=0.2) == 1


def test_an_amateur_without_a_preference_changes_nothing() -> None:
    flat = model(0.25, 0.25, 0.25, 0.25)
    assert EXPERT.generate([0], ContrastiveDecoding(flat), max_new_tokens=1).tokens == (0,)


def test_the_amateur_can_be_flattened() -> None:
    assert first(amateur_temperature=100.0) == 0


def test_a_model_against_itself_has_no_preference() -> None:
    # All plausible tokens score 0, so the lowest id is taken.
    assert EXPERT.generate([0], ContrastiveDecoding(EXPERT), max_new_tokens=2).tokens == (0, 0)


def test_drawing_follows_the_softmax_of_the_scores() -> None:
    ratios = {0: 0.5 / 0.8, 1: 0.4 / 0.15, 2: 0.099 / 0.0499}
    for temperature in (1.0, 0.5):
        weights = {token: ratio ** (1 / temperature) for token, ratio in ratios.items()}
        expected = {(token,): weight / math.fsum(weights.values()) for token, weight in weights.items()}
        for inner in (Sampling(temperature=temperature), Speculative(Sampling(temperature), DraftModel(AMATEUR))):
            strategy = ContrastiveDecoding(AMATEUR, strategy=inner)
            assert distribution(strategy, EXPERT, [0], max_new_tokens=1) == pytest.approx(expected, abs=1e-6)


def test_beams_find_the_best_sum_of_scores() -> None:
    # Token 0 is the better first one, by 0.6 : 0.4; after token 1 there is one way on, after token 0 there are two.
    expert = Model(TableRunner({(2,): np.log([0.6, 0.4, 1e-9]), (0,): np.log([0.5, 0.5, 1e-9]), (): [-9.0, 9.0, -9.0]}))
    flat = model(1 / 3, 1 / 3, 1 / 3)
    for inner, tokens in ((Greedy(), (0, 0)), (BeamSearch(num_beams=2), (1, 1))):
        generation = expert.generate([2], ContrastiveDecoding(flat, strategy=inner), max_new_tokens=2)
        assert generation.tokens == tokens


def test_processors_work_on_the_expert() -> None:
    assert first(processors=SuppressedTokens([1])) == 2
    # Without tokens 0 to 2, the fourth is the best of what is left, and so plausible.
    assert first(processors=SuppressedTokens([0, 1, 2])) == 3
    assert first(strategy=Greedy(processors=SuppressedTokens([1]))) == 2


def test_both_models_are_asked_about_the_same_text() -> None:
    # The amateur repeats; the expert is undecided. Each step leaves the amateur's favourite.
    expert = model(0.5, 0.5)
    amateur = Model(TableRunner(np.log([[0.9, 0.1], [0.1, 0.9]])))
    assert expert.generate([0], ContrastiveDecoding(amateur), max_new_tokens=4).tokens == (1, 0, 1, 0)


def test_the_logprob_is_the_experts() -> None:
    generation = EXPERT.generate([0], ContrastiveDecoding(AMATEUR), max_new_tokens=2)
    assert generation.logprob == pytest.approx(2 * math.log(0.4), abs=1e-5)


def test_two_forwards_a_token_and_the_stop_ends_it() -> None:
    expert = model(0.50, 0.40, 0.099, 0.001, eos_token_ids=[1])
    generation = expert.generate([0], ContrastiveDecoding(AMATEUR), max_new_tokens=5)
    assert generation.tokens == (1,)
    assert generation.cost.forwards == 2


def test_text_is_streamed_token_by_token() -> None:
    assert list(EXPERT.stream([0], ContrastiveDecoding(AMATEUR), max_new_tokens=3)) == ["b", "b", "b"]


def test_alone_and_among_others() -> None:
    tasks = [Task(EXPERT, [0], each, max_new_tokens=3) for each in (ContrastiveDecoding(AMATEUR), Greedy())]
    tasks.append(Task(AMATEUR, [0], "greedy", max_new_tokens=3))
    assert {generation.index: generation.tokens for generation in run(tasks)} == {
        0: (1, 1, 1),
        1: (0, 0, 0),
        2: (0, 0, 0),
    }


def test_another_vocabulary_is_an_error() -> None:
    with pytest.raises(StrategyError, match=r"`contrastive_decoding` .* vocabulary of 4 tokens, but .* has 2"):
        EXPERT.generate([0], ContrastiveDecoding(model(0.5, 0.5)), max_new_tokens=1)


def test_spec_round_trip() -> None:
    spec = "contrastive_decoding:amateur=smollm2,alpha=0.2,beta=0.5"
    assert parse(spec) == ContrastiveDecoding("smollm2", alpha=0.2, beta=0.5)
    assert str(parse(spec)) == spec


@pytest.mark.parametrize(
    "parameters",
    [
        {"amateur": 3},
        {"alpha": 0.0},
        {"alpha": 1.5},
        {"beta": -0.1},
        {"amateur_temperature": 0.0},
        {"beta": float("inf")},
        {"strategy": "beam"},
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `contrastive_decoding`"):
        ContrastiveDecoding(**{"amateur": "smollm2", **parameters})


@pytest.mark.parametrize("inner", [Greedy(), Speculative(), BeamSearch(num_beams=1)], ids=str)
def test_a_real_model_against_itself_at_another_temperature(inner: Strategy, model: Model) -> None:
    # log p − log p / 0.5 falls as p rises: the least probable of the plausible tokens is taken.
    strategy = ContrastiveDecoding(model, alpha=0.2, amateur_temperature=0.5, strategy=inner)
    prompt = model.encode("My favourite colour is")
    tokens = model.generate(prompt, strategy, max_new_tokens=6).tokens
    for end, token in enumerate(tokens):
        sequence = model.vocabulary.prompt([*prompt, *tokens[:end]])
        (answer,) = model.runner.forward([Forward(sequence)])
        plausible = np.flatnonzero(answer.logits[0] >= answer.logits[0].max() + math.log(0.2))
        assert token == plausible[answer.logits[0][plausible].argmin()]
