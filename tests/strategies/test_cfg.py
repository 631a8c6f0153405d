from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    ClassifierFreeGuidance,
    Greedy,
    Model,
    RepetitionPenalty,
    Sampling,
    Speculative,
    TableRunner,
    parse,
)
from ovdecode.errors import ConfigurationError, TokenError
from ovdecode.testing import distribution, table_model

CONDITIONAL, UNCONDITIONAL = [2.0, 1.0, 0.5, -1.0], [2.0, -0.5, 0.0, -1.0]
MODEL = Model(TableRunner({(0, 1): CONDITIONAL, (1,): UNCONDITIONAL, (): [0.0] * 4}))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [  # softmax of what transformers 5.23's UnbatchedClassifierFreeGuidanceLogitsProcessor returns for these two
        (0.5, [0.7156479954719543, 0.12436097860336304, 0.12436097860336304, 0.035630013793706894]),
        (1.0, [0.6094600558280945, 0.2242078334093094, 0.13598892092704773, 0.030343228951096535]),
        (1.5, [0.4727925658226013, 0.36821117997169495, 0.1354573369026184, 0.02353896200656891]),
        (3.0, [0.11055376380681992, 0.8168877959251404, 0.06705423444509506, 0.005504149477928877]),
    ],
)
def test_the_law_is_that_of_transformers(scale: float, expected: list[float]) -> None:
    found = distribution(ClassifierFreeGuidance(scale, strategy=Sampling()), MODEL, [0, 1], max_new_tokens=1)
    assert found == pytest.approx({(token,): p for token, p in enumerate(expected)}, abs=1e-6)


def test_the_scores_are_those_of_transformers() -> None:
    logits = [np.array(row, np.float32) for row in (CONDITIONAL, UNCONDITIONAL)]
    found = ClassifierFreeGuidance(1.5).combine(MODEL.vocabulary.prompt([0]), logits[0], logits[1:])
    expected = [-0.6243650317192078, -0.8743650913238525, -1.8743650913238525, -3.6243648529052734]
    assert found == pytest.approx(np.array(expected), abs=1e-6)


def test_what_is_impossible_without_the_prompt_is_not_infinitely_better_with_it() -> None:
    # It was, and after that no token could be chosen: the logits held inf, or NaN for a scale of 1.
    rows = {(0, 1): [2.0, 1.9, 0.0], (1,): [-math.inf, 0.0, 0.0], (): [0.0, 0.0, 0.0]}
    model = Model(TableRunner(rows))
    tokens = [
        model.generate([0, 1], ClassifierFreeGuidance(scale), max_new_tokens=1).tokens for scale in (0, 0.5, 1, 1.5, 9)
    ]
    assert tokens == [(1,), (1,), (0,), (0,), (0,)]
    # c for token 0, and c + (c − u) / 2 for the two others, where u is −log 2.
    logits = [np.array(rows[key], np.float32) for key in ((0, 1), (1,))]
    one, two, three = ClassifierFreeGuidance(1.5).combine(model.vocabulary.prompt([0]), logits[0], logits[1:])
    total = math.log(math.exp(2.0) + math.exp(1.9) + 1)
    assert [one, two, three] == pytest.approx(
        [2 - total, 1.5 * (1.9 - total) + 0.5 * math.log(2), -1.5 * total + 0.5 * math.log(2)], abs=1e-5
    )


def test_the_extremes() -> None:
    first = {scale: MODEL.generate([0, 1], ClassifierFreeGuidance(scale), max_new_tokens=1) for scale in (0, 1, 9)}
    assert first[0].tokens == (0,)
    assert first[1].tokens == (0,)
    assert first[9].tokens == (1,)


def test_a_scale_of_1_changes_nothing_and_asks_nothing() -> None:
    """It once moved the logits' zero, which a repetition penalty depends on."""
    model, plain = Model(TableRunner({(): [1.0, 2.0, -3.0]})), Greedy(processors=RepetitionPenalty(3.0))
    expected = model.generate([1], plain, max_new_tokens=4)
    found = model.generate([1], ClassifierFreeGuidance(1.0, strategy=plain), max_new_tokens=4)
    assert (found.tokens, found.cost.tokens) == (expected.tokens, expected.cost.tokens)


def test_no_guidance_makes_the_impossible_possible() -> None:
    model = Model(TableRunner({(0, 1): [0.0, -math.inf], (): [-math.inf, 0.0]}))
    for scale in (0.0, 0.5, 1.0):
        logits = np.array([0.0, -math.inf], np.float32), np.array([0.0, -math.inf], np.float32)
        found = ClassifierFreeGuidance(scale).combine(model.vocabulary.prompt([0]), logits[0], [logits[1]])
        assert found.tolist() == [0.0, -math.inf]


@pytest.mark.parametrize(("negative", "begins"), [(None, (2,)), ([1, 0], (1, 0)), ("ba", (1, 0))])
@pytest.mark.parametrize("inner", [Greedy(), BeamSearch(num_beams=2), Speculative()])
def test_the_same_tokens_follow_the_negative_prompt(negative: Any, begins: tuple[int, ...], inner: Any) -> None:
    base = table_model()
    asked: set[tuple[int, ...]] = set()

    def noted(tokens: tuple[int, ...]) -> np.ndarray:
        asked.add(tokens)
        return base.runner._look_up(tokens)  # type: ignore[attr-defined,no-any-return]

    strategy = ClassifierFreeGuidance(negative_prompt=negative, strategy=inner)
    Model(TableRunner(noted), [5]).generate([3, 4, 2], strategy, max_new_tokens=4)
    conditional = {tokens[3:] for tokens in asked if tokens[:3] == (3, 4, 2)}
    unconditional = {tokens[len(begins) :] for tokens in asked if tokens[:3] != (3, 4, 2) and tokens != (0,)}
    assert conditional == unconditional
    assert len(conditional) >= 4


def test_each_token_is_computed_once_in_either_text() -> None:
    # As long as the text is alive, so is what is cached of the other: three tokens of prompts, then two a step.
    strategy = ClassifierFreeGuidance(negative_prompt=[3])
    generation = table_model().generate([1, 2], strategy, max_new_tokens=5, ignore_eos=True)
    assert generation.cost.forwards == 5
    assert generation.cost.tokens == 3 + 2 * 4


def test_siblings_have_texts_of_their_own() -> None:
    guidance = ClassifierFreeGuidance(negative_prompt=[3])
    prompt = MODEL.vocabulary.prompt([0, 1])
    others = [guidance._unconditional(prompt + tokens) for tokens in ([1, 2], [1, 0], [1, 2, 2])]
    assert [each.tokens.tolist() for each in others] == [[3, 1, 2], [3, 1, 0], [3, 1, 2, 2]]
    assert others[2].parent is others[0]


def test_spec_round_trip() -> None:
    spec = 'cfg:strategy=(beam:num_beams=2),guidance_scale=2.0,negative_prompt="no, thanks"'
    assert parse(spec) == ClassifierFreeGuidance(2.0, "no, thanks", strategy=BeamSearch(num_beams=2))
    assert str(parse(spec)) == spec
    assert parse("cfg:negative_prompt=[1,2]") == ClassifierFreeGuidance(negative_prompt=[1, 2])
    assert parse(str(ClassifierFreeGuidance(negative_prompt="12"))) == ClassifierFreeGuidance(negative_prompt="12")


@pytest.mark.parametrize(
    "parameters",
    [
        {"guidance_scale": -0.5},
        {"guidance_scale": math.inf},
        {"negative_prompt": ""},
        {"negative_prompt": []},
        {"negative_prompt": [0.5]},
        {"negative_prompt": 3},
        {"strategy": "greedy"},
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `cfg`"):
        ClassifierFreeGuidance(**parameters)


def test_a_token_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(TokenError, match="between 0 and 3, got 9"):
        MODEL.generate([0], ClassifierFreeGuidance(negative_prompt=[9]))


def test_a_real_model_against_an_independent_computation(model: Model) -> None:
    prompt, negative = model.encode("The opposite of cold is"), model.encode("The weather is")
    generation = model.generate(prompt, ClassifierFreeGuidance(2.0, "The weather is"), max_new_tokens=8)
    tokens: list[int] = []
    for _ in generation.tokens:
        rows = []
        for start in (prompt, negative):
            (answer,) = model.runner.forward([_forward(model, start + tokens)])
            logits = answer.logits[0].astype(np.float64)
            rows.append(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
        tokens.append(int(np.argmax(2.0 * (rows[0] - rows[1]) + rows[1])))
    assert generation.tokens == tuple(tokens)
    assert generation.tokens != model.generate(prompt, Greedy(), max_new_tokens=8).tokens
    assert model.runner.cache_in_use == 0


def _forward(model: Model, tokens: list[int]) -> Any:
    from ovdecode import Forward

    return Forward(model.vocabulary.prompt(tokens))
