"""Sequential Monte Carlo: the weights are proper, which is shown by every way in which the choices can fall."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from ovdecode import (
    AllowedTokens,
    BestOfN,
    Candidates,
    Forward,
    LogitBias,
    LogitsProcessor,
    Model,
    Regex,
    RepetitionPenalty,
    Sampling,
    Sequence,
    Smc,
    SuppressedTokens,
    TableRunner,
    Task,
    Temperature,
    TopK,
    TopP,
)
from ovdecode.errors import ConfigurationError, LogitsError, StrategyError
from ovdecode.numerics import log_softmax
from ovdecode.processor import Chain
from ovdecode.strategies.resampling import Resampling, resample
from ovdecode.testing.enumeration import Choices, distribution, paths

Text = tuple[int, ...]
EOS = 2
NOISE = Model(TableRunner(cache(lambda tokens: np.random.default_rng([3, *tokens]).normal(0, 1.5, 3))), [EOS])
PROMPT = [0]


@dataclass(frozen=True)
class NoRepeat(LogitsProcessor):
    """No token twice in a row, and nothing at all after 1 0: a constraint that depends on the tokens and has a dead
    end."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        if sequence.generated.tolist() == [1, 0]:
            return candidates.only(np.array([], np.intp))
        return candidates.without(sequence.generated[-1:])


@dataclass(frozen=True)
class NothingAfterZero(LogitsProcessor):
    """A constraint whose only fault is a dead end after 0."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        return candidates.only(np.array([], np.intp)) if sequence[-1] == 0 else candidates


def wish(sequence: Sequence) -> float:
    """The log of a potential that depends on all tokens and holds the text 1 1 to be impossible."""
    tokens = sequence.generated.tolist()
    return -math.inf if tokens[:2] == [1, 1] else 0.7 * sum(tokens) - 0.2 * len(tokens) ** 2


FUNCTIONS: dict[str, Callable[[Text], float]] = {
    "one": lambda text: 1.0,
    "length": len,
    "first token": lambda text: float(text[0] == 1),
    "last token": lambda text: float(text[-1] == EOS),
    "number of zeros": lambda text: text.count(0) ** 2,
}


def estimates(smc: Smc, model: Model, max_new_tokens: int) -> dict[str, float]:
    """The mean of (1/N) Σ w f(x) over every way in which the choices can fall."""
    means, choices, whole = dict.fromkeys(FUNCTIONS, 0.0), Choices(), 0.0
    for generation in paths(Task(model, PROMPT, smc, max_new_tokens), choices):
        whole += choices.probability
        if isinstance(generation.error, LogitsError):  # all weights are 0
            continue
        assert generation.error is None
        for name, function in FUNCTIONS.items():
            mean = sum(math.exp(each.score) * function(each.tokens) for each in generation.alternatives)
            means[name] += choices.probability * math.exp(generation.info["log_normalizer"]) * mean
    assert whole == pytest.approx(1.0)
    return means


def target(smc: Smc, model: Model, max_new_tokens: int) -> dict[Text, float]:
    """p(x) Φ(x) of every text, written down from the definition."""
    found: dict[Text, float] = {}

    def extend(sequence: Sequence, weight: float) -> None:
        text = tuple(sequence.generated.tolist())
        if len(text) == max_new_tokens or text[-1:] == (EOS,):
            value = 0.0 if smc.potential is None else smc.potential(sequence)
            found[text] = weight * math.exp(value)
            return
        (answer,) = model.runner.forward([Forward(sequence)])
        left = smc.processors(Candidates(log_softmax(answer.logits[0])), sequence)
        for token, logit in zip(left.ids.tolist(), left.logits.tolist(), strict=True):
            extend(sequence + token, weight * math.exp(logit))

    extend(model.vocabulary.prompt(PROMPT), 1.0)
    return found


def check_proper(smc: Smc, max_new_tokens: int = 2, model: Model = NOISE) -> None:
    exact = target(smc, model, max_new_tokens)
    seen = estimates(smc, model, max_new_tokens)
    for name, function in FUNCTIONS.items():
        expected = sum(weight * function(text) for text, weight in exact.items())
        assert seen[name] == pytest.approx(expected, rel=1e-5), name


RESAMPLING = pytest.mark.parametrize(
    ("threshold", "resampling"),
    [(0.0, "systematic"), (0.9, "systematic"), (1.0, "systematic"), (0.9, "multinomial"), (1.0, "multinomial")],
)
PROCESSORS = {
    "none": Chain(),
    "hard": NoRepeat(),
    "bias": LogitBias({1: 0.8, EOS: -0.5}),
    "temperature": Temperature(2.0),
    "penalty": RepetitionPenalty(1.7),
    "top-k": TopK(2),
    "all": NoRepeat() | LogitBias({1: 0.8}) | Temperature(0.6),
}


@RESAMPLING
@pytest.mark.parametrize("name", PROCESSORS)
def test_weights_are_proper_for_any_processors(name: str, threshold: float, resampling: Resampling) -> None:
    check_proper(Smc(2, threshold, resampling, processors=PROCESSORS[name]))


@RESAMPLING
def test_weights_are_proper_for_a_potential(threshold: float, resampling: Resampling) -> None:
    check_proper(Smc(2, threshold, resampling, wish))
    check_proper(Smc(2, threshold, resampling, wish, processors=NoRepeat()))


@RESAMPLING
def test_weights_are_proper_for_a_proposal(threshold: float, resampling: Resampling) -> None:
    proposal = Temperature(3.0) | LogitBias({0: 1.0})
    check_proper(Smc(2, threshold, resampling, wish, proposal, processors=NoRepeat()))


@pytest.mark.parametrize("particles", [1, 2, 3])
def test_weights_are_proper_for_any_number_of_particles_and_longer_texts(particles: int) -> None:
    length = {1: 4, 2: 3, 3: 2}[particles]
    check_proper(Smc(particles, 1.0, "systematic", wish, processors=NoRepeat()), length)


def test_some_of_these_do_resample_and_some_texts_end_early() -> None:
    generations = list(paths(Task(NOISE, PROMPT, Smc(2, 0.9, processors=NoRepeat()), 3), Choices()))
    resampled = {generation.info["resamplings"] for generation in generations if generation.error is None}
    assert resampled >= {0, 1}
    assert any(len(generation.tokens) == 1 for generation in generations)
    assert any(generation.error is not None for generation in generations)


# After a nearly always c, which is forbidden; after b nearly always b.
ROWS = {(2,): [0.5, 0.5, 0.0], (0,): [0.01, 0.01, 0.98], (1,): [0.0, 0.98, 0.02]}
with np.errstate(divide="ignore"):
    TRAP = Model(TableRunner({key: np.log(row) for key, row in ROWS.items()}))


def test_a_constraint_conditions_whole_texts_where_sampling_conditions_single_tokens() -> None:
    no_c = SuppressedTokens([2])
    local = distribution(Sampling(processors=no_c), TRAP, [2], max_new_tokens=2)
    assert local == pytest.approx({(0, 0): 0.25, (0, 1): 0.25, (1, 1): 0.5})
    found: dict[Text, float] = {}
    choices = Choices()
    for generation in paths(Task(TRAP, [2], Smc(2, processors=no_c), 2), choices):
        normaliser = math.exp(generation.info["log_normalizer"])
        for each in generation.alternatives:
            mass = choices.probability * normaliser * math.exp(each.score)
            found[each.tokens] = found.get(each.tokens, 0.0) + mass
    # The model's own probabilities of all that is allowed: 0.005, 0.005 and 0.49, of 0.5.
    assert found == pytest.approx({(0, 0): 0.005, (0, 1): 0.005, (1, 1): 0.49})


def test_temperature_is_that_of_whole_texts() -> None:
    exact = target(Smc(processors=Temperature(0.5)), NOISE, 2)
    plain = distribution(Sampling(), NOISE, PROMPT, max_new_tokens=2)
    assert exact == pytest.approx({text: probability**2 for text, probability in plain.items()}, rel=1e-4)


def test_without_processors_it_is_plain_sampling_with_equal_weights() -> None:
    generation = NOISE.generate(PROMPT, Smc(5, 1.0), max_new_tokens=4)
    assert {each.score for each in generation.alternatives} == {-math.log(5)}
    assert generation.info == pytest.approx({"log_normalizer": 0.0, "resamplings": 0, "ess": 5.0})
    samples = NOISE.generate(PROMPT, BestOfN(5, score=lambda sequence: 0.0), max_new_tokens=4)
    assert [each.tokens for each in generation.alternatives] == [each.tokens for each in samples.alternatives]
    assert distribution(Smc(2), NOISE, PROMPT, max_new_tokens=2) == pytest.approx(
        distribution(Sampling(), NOISE, PROMPT, max_new_tokens=2)
    )


def test_a_particle_that_is_never_resampled_does_not_depend_on_its_siblings() -> None:
    few, many = (NOISE.generate(PROMPT, Smc(n, 0.0, processors=LogitBias({1: 1.0})), max_new_tokens=5) for n in (2, 7))
    assert len(many.alternatives) == 7
    assert {each.tokens for each in few.alternatives} <= {each.tokens for each in many.alternatives}


def test_the_figures_of_a_literal_case() -> None:
    # A particle with token 1 has the weight 3, one with 0 the weight 1.
    model = Model(TableRunner({(): np.log([0.75, 0.25])}))
    smc = Smc(4, 0.0, potential=lambda sequence: math.log(3.0) if 1 in sequence.generated else 0.0)
    for seed in range(4):
        generation = model.generate([0], smc, max_new_tokens=1, seed=seed)
        weights = [3.0 if each.tokens == (1,) else 1.0 for each in generation.alternatives]
        assert weights == sorted(weights, reverse=True)
        total = sum(weights)
        assert [math.exp(each.score) for each in generation.alternatives] == pytest.approx(
            [weight / total for weight in weights]
        )
        assert math.exp(generation.info["log_normalizer"]) == pytest.approx(total / 4)
        assert generation.info["ess"] == pytest.approx(total**2 / sum(weight**2 for weight in weights))


@pytest.mark.parametrize("method", ["systematic", "multinomial"])
@pytest.mark.parametrize("weights", [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.9, 0.1], [0.4, 0.3, 0.3]])
def test_each_particle_is_continued_as_often_as_its_weight_says_on_average(
    method: Resampling, weights: list[float]
) -> None:
    choices, mean, seen = Choices(), np.zeros(3), set()
    while True:
        origins = resample(np.array(weights), method, choices)
        counts = np.bincount(origins, minlength=3)
        mean += choices.probability * counts
        seen.add(tuple(counts.tolist()))
        if not choices.advance():
            break
    assert mean == pytest.approx(3 * np.array(weights))
    if method == "systematic":
        for counts in seen:
            assert all(abs(count - 3 * weight) < 1 for count, weight in zip(counts, weights, strict=True))


def test_a_dead_end_is_a_weight_of_0_and_an_error_once_all_are_dead() -> None:
    coin = Model(TableRunner({(): [0.0, 0.0]}))
    generation = coin.generate([1], Smc(16, 0.0, processors=NothingAfterZero()), max_new_tokens=2)
    living = len(generation.alternatives)
    assert 0 < living < 16
    assert all(each.tokens[0] == 1 for each in generation.alternatives)
    assert math.exp(generation.info["log_normalizer"]) == pytest.approx(living / 16)
    generation = coin.generate([1], Smc(16, 0.99, processors=NothingAfterZero()), max_new_tokens=3)
    assert generation.info["resamplings"] >= 1
    with pytest.raises(LogitsError, match="in any particle of `smc`"):
        TRAP.generate([0], Smc(4, processors=AllowedTokens([5])), max_new_tokens=2)
    with pytest.raises(LogitsError, match="in any particle of `smc`"):
        TRAP.generate([0], Smc(4, potential=lambda sequence: -math.inf), max_new_tokens=2)


def test_a_dead_end_in_the_middle_of_a_chain_is_one_too() -> None:
    coin = Model(TableRunner({(): [0.0, 0.0]}))
    smc = Smc(16, 0.0, processors=NothingAfterZero() | TopP(0.9))
    assert 0 < len(coin.generate([1], smc, max_new_tokens=2).alternatives) < 16


def test_a_model_that_fails_is_no_dead_end() -> None:
    model = Model(TableRunner({(): [math.nan, 0.0]}))
    with pytest.raises(LogitsError, match="must give logits with a finite maximum"):
        model.generate([0], Smc(2), max_new_tokens=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, "good", None])
def test_a_potential_that_is_none_is_named(value: object) -> None:
    with pytest.raises(StrategyError, match="`potential` of `smc` must return a number below inf"):
        NOISE.generate(PROMPT, Smc(2, potential=lambda sequence: value), max_new_tokens=1)  # type: ignore[arg-type,return-value]


def test_a_proposal_that_removes_tokens_is_refused() -> None:
    with pytest.raises(StrategyError, match="`proposal` of `smc` must leave every token, but top_k:k=2"):
        NOISE.generate(PROMPT, Smc(2, proposal=TopK(2)), max_new_tokens=1)


@pytest.mark.parametrize(
    "parameters",
    [{"num_particles": 0}, {"ess_threshold": 1.5}, {"resampling": "residual"}, {"potential": 3}, {"proposal": "top_k"}],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}`"):
        Smc(**parameters)  # type: ignore[arg-type]


def test_a_constraint_on_a_real_model(model: Model) -> None:
    digits = [token for digit in "0123456789" for token in model.encode(digit)]
    smc = Smc(4, 1.0, processors=AllowedTokens(digits))
    generation = model.generate("My lucky number is ", smc, max_new_tokens=4, seed=1)
    assert all(each.text.isdigit() for each in generation.alternatives)
    assert sum(math.exp(each.score) for each in generation.alternatives) == pytest.approx(1.0)
    # Each weight is the mass that the constraint left along the text: the normaliser is their mean, below 1.
    assert generation.info["log_normalizer"] < 0.0
    assert generation.info["resamplings"] >= 1


def test_a_grammar_on_a_real_model(model: Model) -> None:
    smc = Smc(4, 0.5, processors=Regex("(yes|no|it depends)[.]"))
    generation = model.generate("Is the sky blue? Answer:", smc, max_new_tokens=8, seed=1)
    assert all(each.text in ("yes.", "no.", "it depends.") for each in generation.alternatives)
    assert generation.info["log_normalizer"] < -1.0
