"""Temperatures that follow the entropy or the text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ovdecode import (
    EDT,
    AdapT,
    Candidates,
    DynamicTemperature,
    LogitsProcessor,
    Model,
    Sampling,
    Speculative,
    TableRunner,
    Vocabulary,
)
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.testing import distribution
from ovdecode.vocabulary import Letters

ROOT = Vocabulary(4).root
INF = math.inf


def temperature(processor: LogitsProcessor, logits: list[float]) -> float:
    """By what the largest logit, which must not be 0, was divided."""
    row = np.array(logits, np.float32)
    return float(row.max() / processor(Candidates(row), ROOT).logits.max())


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([1, 1, 1, 1], 2.0),  # uniform
        ([1, 1, -INF, -INF], 2.0),  # uniform over what is possible
        ([99, 1, 1, 1], 0.5),  # certain
        ([1 + math.log(3), 1, 1, 1], 0.5 + 1.5 * (1 + math.log2(3) / 2) / 2),  # 1/2, 1/6 three times
    ],
)
def test_dynamic_temperature_rises_from_low_to_high(logits: list[float], expected: float) -> None:
    assert temperature(DynamicTemperature(0.5, 2.0), logits) == pytest.approx(expected, rel=1e-5)


def test_the_exponent_bends_the_rise() -> None:
    logits = [1.0, 1.0, -80.0, -80.0]  # log 2 of log 4: the last two are possible, barely
    assert temperature(DynamicTemperature(0.5, 2.5), logits) == pytest.approx(1.5)
    assert temperature(DynamicTemperature(0.5, 2.5, exponent=2.0), logits) == pytest.approx(1.0)


def test_a_single_candidate_has_no_temperature() -> None:
    one = DynamicTemperature(0.5, 2.0)(Candidates(np.array([-INF, 3.0, -INF], np.float32)), ROOT)
    assert one.logits.tolist() == [-INF, 3.0, -INF]


@pytest.mark.parametrize("processor", [DynamicTemperature(0.0, 2.0), EDT(1.0, 1.0)], ids=str)
def test_certainty_may_reach_a_temperature_of_zero(processor: LogitsProcessor) -> None:
    cold = processor(Candidates(np.array([900.0, 0.0, 1.0], np.float32)), ROOT)
    assert cold.distribution(3).tolist() == [1, 0, 0]
    assert cold.logits.dtype == np.float32


@pytest.mark.parametrize(
    ("theta", "expected"), [(math.log(4), 0.8), (2 * math.log(4), 0.64), (math.log(2), math.sqrt(0.8))]
)
def test_edt_by_eye(theta: float, expected: float) -> None:
    assert temperature(EDT(1.0, theta), [1, 1, 1, 1]) == pytest.approx(expected)  # entropy log 4
    assert temperature(EDT(0.5, theta), [1, 1, 1, 1]) == pytest.approx(expected / 2)


def test_edt_is_colder_where_the_model_is_sure() -> None:
    found = [temperature(EDT(1.0, 1.0), [peak, 1, 1, 1]) for peak in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.01 < 0.8 < found[0] < 1


# ---- AdapT -------------------------------------------------------------------------------------------------


class Code(Letters):
    """Token 0 is a line break, 1 is a space, 2 is "x", 3 is "{", 4 is special."""

    special_ids = frozenset([4])

    def token_bytes(self, token: int) -> bytes:
        return [b"\n", b" ", b"x", b"{", b"<s>"][token]


@pytest.mark.parametrize(
    ("prompt", "generated", "hard"),
    [
        ([2], [], False),
        ([2], [0], True),
        ([2, 0], [], True),  # the prompt's text counts
        ([2, 0], [1, 1], True),  # indentation
        ([2, 0], [1, 2], False),
        ([2], [1], False),
        ([4], [], True),  # a special token is no text: this is the beginning
        ([2, 0], [4], True),
        ([2, 0], [2] * 100, False),
        ([2], [1] * 63, False),
    ],
)
def test_the_first_token_of_a_line_is_hard(prompt: list[int], generated: list[int], hard: bool) -> None:
    sequence = Vocabulary(5, spelling=Code()).prompt(prompt) + generated
    left = AdapT(hard=2.0, easy=0.5)(Candidates(np.array([1.0, 2.0])), sequence)
    assert left.logits.tolist() == ([0.5, 1.0] if hard else [2.0, 4.0])


def test_another_pattern_is_another_block() -> None:
    vocabulary = Vocabulary(5, spelling=Code())
    opened = AdapT(2.0, 0.5, pattern=r"\{\s*|never")
    for tokens, hard in (([3], True), ([3, 0, 1], True), ([2, 0], False), ([3, 2], False)):
        left = opened(Candidates(np.array([1.0])), vocabulary.prompt(tokens))
        assert left.logits.tolist() == [0.5 if hard else 2.0], tokens


def test_siblings_do_not_see_each_others_text() -> None:
    vocabulary = Vocabulary(5, spelling=Code())
    adapt, row = AdapT(2.0, 0.5), Candidates(np.array([1.0]))
    one, other = vocabulary.prompt([2]) + 0, vocabulary.prompt([2]) + 2
    for _ in range(2):
        assert (adapt(row, one).logits[0], adapt(row, other).logits[0]) == (0.5, 2.0)


def test_adapt_inside_speculation_keeps_its_law() -> None:
    model = Model(TableRunner(np.random.default_rng(0).standard_normal((4, 4))))
    chain = AdapT(hard=3.0, easy=0.3, pattern="[ab]")
    plain = distribution(Sampling(processors=chain), model, [0, 3, 0], max_new_tokens=3)
    drafted = distribution(Speculative(Sampling(processors=chain)), model, [0, 3, 0], max_new_tokens=3)
    assert drafted == pytest.approx(plain, abs=1e-6)
    assert plain != pytest.approx(distribution(Sampling(), model, [0, 3, 0], max_new_tokens=3), abs=1e-3)


def test_on_the_real_model(model: Model) -> None:
    prompt = "def add(a, b):\n"
    cold = model.generate(prompt, "sampling:processors=(adapt:hard=0.01,easy=0.01)", max_new_tokens=12)
    assert cold.tokens == model.generate(prompt, "greedy", max_new_tokens=12).tokens
    for processor in ("dynamic_temperature:low=0,high=0.01", "edt:temperature=0.01,theta=1"):
        found = model.generate(prompt, f"sampling:processors=({processor})", max_new_tokens=12)
        assert found.tokens == cold.tokens


@pytest.mark.parametrize("processor", [DynamicTemperature(0.5, 2.0), EDT(1.0, 1.0)], ids=str)
def test_nan_is_called_nan(processor: LogitsProcessor) -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        processor(Candidates(np.array([np.nan, 1, 2], np.float32)), ROOT)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DynamicTemperature(-0.1, 1.0), "`low` of `dynamic_temperature` must be a finite number of at least 0"),
        (lambda: DynamicTemperature(1.0, 0.5), "`high` .* at least `low`, which is 1.0, got 0.5"),
        (lambda: DynamicTemperature(0.0, 0.0), "`high`"),
        (lambda: DynamicTemperature(0.5, 1.0, exponent=0.0), "`exponent`"),
        (lambda: EDT(0.0, 1.0), "`temperature` of `edt`"),
        (lambda: EDT(1.0, 0.0), "`theta`"),
        (lambda: EDT(1.0, 1.0, base=1.0), "`base` .* between 0 and 1, both excluded"),
        (lambda: AdapT(0.0, 1.0), "`hard` of `adapt`"),
        (lambda: AdapT(1.0, INF), "`easy`"),
        (lambda: AdapT(1.0, 1.0, pattern="("), r"`pattern` .* a regular expression \(missing \)"),
    ],
)
def test_configuration_errors_name_the_parameter(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
