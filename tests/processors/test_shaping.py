"""XTC, quadratic and skew: literal cases, and XTC against the coin that it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import (
    XTC,
    Candidates,
    DraftModel,
    LogitsProcessor,
    Model,
    Quadratic,
    Random,
    Sampling,
    Sequence,
    Skew,
    Speculative,
    Strategy,
    TableRunner,
    Temperature,
    TopK,
    Vocabulary,
)
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding
from ovdecode.testing import distribution
from ovdecode.testing.enumeration import Choices

ROOT = Vocabulary(4).root


def law(processor: LogitsProcessor, probabilities: list[float]) -> list[float]:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probabilities, np.float32))
    return processor(Candidates(logits), ROOT).distribution(len(probabilities)).tolist()


# ---- XTC ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probabilities", "dropped"),
    [
        ([0.4, 0.3, 0.2, 0.1], [1 / 2, 1 / 3]),  # 0.4, 0.3, 0.2 reach 0.2; the last of them stays
        ([0.7, 0.1, 0.1, 0.1], None),  # one choice alone is no top choice
        ([0.1, 0.4, 0.4, 0.1], "tie"),
    ],
)
def test_all_top_choices_but_the_least_probable_are_dropped(probabilities: list[float], dropped: object) -> None:
    found = law(XTC(probability=1, threshold=0.2), probabilities)
    if dropped is None:
        assert found == pytest.approx(probabilities)
    elif dropped == "tie":
        assert found == pytest.approx([1 / 6, 0, 4 / 6, 1 / 6])  # of equals, the one with the highest id stays
    else:
        assert found == pytest.approx([0, 0, 2 / 3, 1 / 3])


def test_a_probability_at_the_threshold_is_a_choice() -> None:
    assert law(XTC(1, threshold=0.25), [0.5, 0.25, 0.125, 0.125]) == pytest.approx([0, 0.5, 0.25, 0.25])


def test_half_of_the_time_is_a_mixture() -> None:
    # Half of 0.5, 0.25, 0.25 and half of 0, 0, 1.
    assert law(XTC(0.5, threshold=0.2), [0.5, 0.25, 0.25]) == pytest.approx([0.25, 0.125, 0.625])


def test_a_protected_token_keeps_all() -> None:
    shares = [0.4, 0.3, 0.2, 0.1]
    assert law(XTC(1, threshold=0.15, protected=[1]), shares) == pytest.approx(shares)
    assert law(XTC(1, threshold=0.15, protected=[2, 3]), shares) == pytest.approx([0, 0, 2 / 3, 1 / 3])  # 2 stays
    assert XTC(protected=[3, 1, 3]).protected == (1, 3)


def test_the_temperature_comes_after_the_choice() -> None:
    # At temperature 1/2 the shares 4, 3, 2, 1 are 16, 9, 4, 1; but what reaches 0.25 is asked before.
    found = law(XTC(0.5, threshold=0.25, temperature=0.5), [0.4, 0.3, 0.2, 0.1])
    assert found == pytest.approx([16 / 60, 9 / 60 + 9 / 28, 4 / 60 + 4 / 28, 1 / 60 + 1 / 28])
    cold = law(XTC(1, threshold=0.5, temperature=0.5), [0.4, 0.3, 0.2, 0.1])
    assert cold == pytest.approx(law(Temperature(0.5), [0.4, 0.3, 0.2, 0.1]))


def test_at_a_low_temperature_what_is_kept_still_has_its_share() -> None:
    # Kept, tokens 1 and 2 have e^-4000 of the mass, which no weight can show.
    logits = XTC(0.25, threshold=0.1, temperature=5e-4)(Candidates(np.array([2, 0, -1], np.float32)), ROOT)
    assert logits.distribution(3).tolist() == pytest.approx([0.75, 0.25, 0])


@pytest.mark.parametrize("probability", [1.0, 1 - 1e-7, 0.5, 1e-7])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_what_xtc_leaves_are_log_probabilities_whether_or_not_it_acts(probability: float, threshold: float) -> None:
    """A search compares sums of logits; at a probability of 1 they once jumped."""
    after = XTC(probability, threshold)(Candidates(np.log([0.4, 0.3, 0.2])), ROOT)
    assert after.logsumexp == pytest.approx(0.0, abs=1e-12)


@dataclass(frozen=True)
class Coin(Strategy):
    """XTC as the engines have it: a coin, the cut, the temperature, the draw."""

    probability: float = 0.5
    threshold: float = 0.1
    temperature: float = 1.0

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            candidates = self.candidates(logits, sequence)
            if rng.flip(self.probability):
                shares = candidates.distribution(len(logits))
                choices = sorted(np.flatnonzero(shares >= self.threshold), key=lambda token: -shares[token])
                candidates = candidates.without(np.array(choices[:-1], int))
            sequence += candidates.divided(self.temperature).draw(rng)
        return sequence


def noise(seed: int) -> Model:
    rows = cache(lambda tokens: np.random.default_rng([seed, *tokens]).standard_normal(4) * 1.2)
    return Model(TableRunner(rows))


MODEL, OTHER = noise(1), noise(2)


@pytest.mark.parametrize("probability", [0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("before", [TopK(4), Temperature(1.5) | TopK(3)], ids=str)
def test_the_mixture_is_the_law_of_the_coin(probability: float, temperature: float, before: LogitsProcessor) -> None:
    options = {"probability": probability, "threshold": 0.15, "temperature": temperature}

    def exact(strategy: Strategy) -> dict[tuple[int, ...], float]:
        return distribution(strategy, MODEL, [0], max_new_tokens=2)

    mixture = exact(Sampling(processors=before | XTC(**options)))
    assert exact(Coin(processors=before, **options)) == pytest.approx(mixture, abs=1e-6)
    drafted = Speculative(Sampling(processors=before | XTC(**options)), DraftModel(OTHER, 1))
    assert exact(drafted) == pytest.approx(mixture, abs=1e-6)
    assert exact(Sampling(temperature=temperature, processors=before)) != pytest.approx(mixture, abs=1e-3)


# ---- Quadratic and skew ------------------------------------------------------------------------------------


def test_quadratic_by_eye() -> None:
    logits = Candidates(np.array([2, 1, 0, -np.inf], np.float32))
    assert Quadratic(1.0)(logits, ROOT).logits.tolist() == [2, 1, -2, -np.inf]  # 2 - d²
    assert Quadratic(1.0, curve=2.0)(logits, ROOT).logits.tolist() == [2, 1, -4, -np.inf]  # 2 - d²/2 + d³/2
    assert Quadratic(2.0, curve=3.0)(logits, ROOT).logits.tolist() == [2, 0, -14, -np.inf]  # 2 + 2d³


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=8),
    st.floats(0.01, 10),
    st.floats(1, 3),
)
def test_up_to_a_curve_of_three_the_order_stays(row: list[float], factor: float, curve: float) -> None:
    logits = np.array(row, np.float32)
    shaped = Quadratic(factor, curve)(Candidates(logits), ROOT).logits
    order = np.argsort(logits, kind="stable")
    assert shaped.max() == shaped[logits.argmax()] == logits.max()
    assert np.all(np.diff(shaped[order]) >= -1e-3 * np.abs(shaped[order][1:]))


def test_above_three_the_second_may_overtake_the_best() -> None:
    shaped = Quadratic(1.0, curve=5.0)(Candidates(np.array([1, 0.75, -2], np.float32)), ROOT)
    assert shaped.argmax() == 1  # 1 + d² + 2d³ at d = -1/4


@pytest.mark.parametrize(
    ("skew", "expected"),
    [(math.log(2), [5 / 16, 4 / 16, 7 / 16]), (math.log(0.5), [3**0.5 / 2 - 0.5**0.5, 0.5**0.5, 1 - 3**0.5 / 2])],
)
def test_skew_raises_the_running_mass_to_a_power(skew: float, expected: list[float]) -> None:
    # In order: 1/2, then 1/4 (the lower id first), then 1/4; so 1/2, 3/4, 1, squared or rooted.
    assert law(Skew(skew), [0.25, 0.5, 0.25]) == pytest.approx(expected, rel=1e-6)


def test_skew_moves_mass_to_the_tail_or_the_top() -> None:
    shares = [0.4, 0.3, 0.2, 0.1, 0.0]
    for skew, top in ((2.0, False), (-2.0, True)):
        found = law(Skew(skew), shares)
        assert sum(found) == pytest.approx(1)
        assert found[4] == 0
        assert (found[0] > 0.4) is top
        assert (found[3] < 0.1) is top


@pytest.mark.parametrize(("skew", "expected"), [(20.0, [0, 0, 1]), (-20.0, [0, 1, 0])])
def test_the_strongest_skew_is_certain(skew: float, expected: list[float]) -> None:
    assert law(Skew(skew), [0.25, 0.5, 0.25]) == pytest.approx(expected, abs=1e-8)


def test_skew_keeps_tokens_that_are_hardly_possible() -> None:
    logits = Skew(1.0)(Candidates(np.array([0, -60, -70], np.float32)), ROOT).logits
    assert logits.tolist() == pytest.approx([0, 1 - 60, 1 - 70], abs=1e-5)  # C^e near 1: a share of e·p


@given(st.integers(0, 100), st.sampled_from([3, 2000]), st.sampled_from([-3.0, -0.5, 0.5, 3.0]))
def test_skew_equals_its_definition(seed: int, size: int, skew: float) -> None:
    row = (np.random.default_rng(seed).standard_normal(size) * 4).round(1).astype(np.float32)
    falling = np.argsort(-row, kind="stable")
    weights = Candidates(row).distribution(size)[falling]
    masses, power = weights.cumsum(), math.exp(skew)
    expected = np.diff(masses**power, prepend=0.0)
    found = Skew(skew)(Candidates(row), ROOT).distribution(size)[falling]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("skew", [2.0, -1.0])
def test_a_draw_has_the_law_of_the_weights_that_it_does_not_make(skew: float) -> None:
    row = (np.random.default_rng(4).standard_normal(4000) * 2).round(2).astype(np.float32)  # with ties everywhere
    row[::5] = -np.inf
    skewed, choices, found = Skew(skew)(Candidates(row), ROOT), Choices(), np.zeros(len(row))
    open_paths, made = True, []
    with patch.object(type(skewed), "make", lambda self: made.append(self)):
        while open_paths:
            found[skewed.draw(choices)] += choices.probability
            open_paths = choices.advance()
    assert made == []
    assert found == pytest.approx(skewed.distribution(len(row)), rel=1e-4, abs=1e-9)


def test_the_draw_ends_where_no_token_is_left() -> None:
    """What rounding left of a sum was offered as if it were further tokens, for ever."""
    row = [6.7380905, -23.80889, -2.440191, 11.599103, -9.951692]
    found = distribution(Sampling(processors=Skew(1.0)), Model(TableRunner({(): row})), [0], max_new_tokens=1)
    expected = Skew(1.0)(Candidates(np.array(row, np.float32)), ROOT).distribution(5)
    assert found == pytest.approx({(token,): share for token, share in enumerate(expected)}, rel=1e-4, abs=1e-9)


def test_what_chooses_in_order_is_offered_all_skewed_weights_at_once() -> None:
    class Ordered(Random):
        ordered = True

    row = np.linspace(3, 0, 1000, dtype=np.float32)
    offered: list[int] = []
    with patch.object(Ordered, "choose", lambda self, weights: offered.append(len(weights)) or 0):
        Skew(1.0)(Candidates(row), ROOT).draw(Ordered(0))
    assert offered == [1000]


@pytest.mark.parametrize("processor", [XTC(), Quadratic(1.0), Skew(1.0)], ids=str)
def test_nan_is_called_nan(processor: LogitsProcessor) -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        processor(Candidates(np.array([np.nan, 1, 2], np.float32)), ROOT)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: XTC(probability=0.0), "`probability` of `xtc` must be a number above 0 and at most 1, got 0.0"),
        (lambda: XTC(threshold=0.6), "`threshold` of `xtc` must be a number above 0 and at most 0.5, got 0.6"),
        (lambda: XTC(temperature=0.0), "`temperature`"),
        (lambda: XTC(protected=[-1]), "`protected` of `xtc` must be token ids"),
        (lambda: XTC(protected=[1.5]), "`protected`"),  # type: ignore[list-item]
        (lambda: Quadratic(0.0), "`factor`"),
        (lambda: Quadratic(1.0, curve=0.5), "`curve` of `quadratic` must be a finite number of at least 1"),
        (lambda: Skew(0.0), "`skew` of `skew` must be a number from -20 to 20, but not 0, got 0.0"),
        (lambda: Skew(math.inf), "`skew`"),
    ],
)
def test_configuration_errors_name_the_parameter(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
