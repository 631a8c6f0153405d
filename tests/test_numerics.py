"""Selections that read a part of a row find what a full sort finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Candidates, Greedy, Model, Random, Task, TopP, Vocabulary
from ovdecode.blocks import Blocks
from ovdecode.engine import Engine
from ovdecode.errors import DeadEnd, LogitsError
from ovdecode.numerics import (
    exponentials,
    falling_order,
    log_softmax,
    logsumexp,
    top_indices,
    total,
    weighted_sum,
)
from ovdecode.testing.enumeration import Choices

BLOCK = 4
PROMPT = Vocabulary(4096).prompt([0])


def told(row: np.ndarray[Any, Any], *, all_weights: bool = False) -> Candidates:
    """All tokens, with what a graph says of every few; also of each, if wanted."""
    blocks = row.reshape(-1, BLOCK)
    with np.errstate(under="ignore"):
        weights = np.exp(blocks - row.max())
    weights[weights < np.finfo(np.float32).tiny] = 0
    return Candidates(
        row, blocks=Blocks(blocks.max(axis=1), weights.sum(axis=1), weights.ravel() if all_weights else None)
    )


def law(candidates: Candidates) -> dict[int, float]:
    """The probability of every token that can be drawn."""
    choices, found = Choices(), dict[int, float]()
    while True:
        token = candidates.draw(choices)
        found[token] = found.get(token, 0.0) + choices.probability
        if not choices.advance():
            return found


@given(
    st.lists(st.integers(-3, 3), min_size=24, max_size=24),  # few values, so many ties
    st.integers(1, 8),
)
def test_peaks_change_no_selection(values: list[int], count: int) -> None:
    row = np.array(values, np.float32)
    best = np.sort(np.argsort(-row, kind="stable")[:count])
    assert told(row).top(count).ids.tolist() == top_indices(row, count).tolist() == best.tolist()
    assert told(row).argmax() == Candidates(row).argmax() == int(row.argmax())


@given(st.integers(0, 100), st.sampled_from([5, 1024, 1025, 3000]), st.sampled_from([1, 1000]))
def test_falling_order_is_that_of_a_stable_sort(seed: int, size: int, steps: int) -> None:
    row = (np.random.default_rng(seed).standard_normal(size) * steps).round().astype(np.float32) / steps
    row[::7], row[::11], row[::13] = -np.inf, 0.0, -0.0
    for kind in (np.float32, np.float64):
        assert falling_order(row.astype(kind)).tolist() == np.argsort(-row, kind="stable").tolist()


def test_only_blocks_with_a_high_peak_are_read() -> None:
    row = np.arange(64, dtype=np.float32)
    candidates = told(row)
    row[:56] = np.nan  # whoever reads the lower blocks will find no order in them
    assert candidates.top(2).ids.tolist() == [62, 63]
    assert (candidates.argmax(), candidates.peak, candidates.divided(0.5).top(2).logits.tolist()) == (
        63,
        63,
        [124, 126],
    )


@given(
    st.lists(st.integers(-3, 3), min_size=24, max_size=24), st.integers(-4, 4), st.sampled_from([1.0, 0.7, 1e-30, 3.0])
)
def test_peaks_change_nothing_above_a_bound(values: list[int], bound: int, divisor: float) -> None:
    row = np.array(values, np.float32)
    plain = Candidates(row).divided(divisor)
    reach = (plain.logits >= bound / divisor).nonzero()[0]
    peaked = told(row).divided(divisor)
    assert plain.above(bound / divisor).tolist() == peaked.above(bound / divisor).tolist() == reach.tolist()
    assert plain.peak == peaked.peak == plain.logits.max()


@given(st.integers(0, 100), st.sampled_from([3, 256, 257, 4000]), st.sampled_from([0.1, 3.0]), st.floats(1e-9, 0.999))
def test_the_likely_are_above_all_others_and_have_their_share(seed: int, size: int, scale: float, share: float) -> None:
    row = (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)
    candidates = Candidates(row)
    for surprise in (0.0, candidates.entropy):
        likely = candidates.likely(share, surprise).ids
        left = np.delete(row, likely)
        assert candidates.probabilities[likely].sum(dtype=np.float64) >= share - 1e-6
        assert len(left) == 0 or left.max() < row[likely].min()
        assert (
            len(left) == 0 or candidates.logprobs.dtype.type(-surprise) >= np.delete(candidates.logprobs, likely).max()
        )


@given(st.integers(0, 100), st.sampled_from([0.5, 4.0]), st.sampled_from([-60.0, 0.0, 60.0]), st.booleans())
def test_sums_of_blocks_change_no_law(seed: int, scale: float, shift: float, all_weights: bool) -> None:
    rng = np.random.default_rng(seed)
    row = (rng.standard_normal(2000) * scale + shift).astype(np.float32)
    row[rng.random(2000) < 0.3] = -np.inf
    short = row[:64]
    for amount in (0.0, 2.0, -shift):
        plain, known = Candidates(short).shifted(amount), told(short, all_weights=all_weights).shifted(amount)
        assert law(known) == pytest.approx(law(plain), rel=1e-5)
        plain, known = Candidates(row).shifted(amount), told(row, all_weights=all_weights).shifted(amount)
        for share in (0.1, 0.5, 0.9, 0.999):
            one, other = TopP(share)(known, PROMPT).ids, TopP(share)(plain, PROMPT).ids
            assert len(np.setxor1d(one, other)) <= 1  # the sum may come to the share within a rounding
        assert known.logsumexp == pytest.approx(plain.logsumexp, rel=1e-6, abs=1e-5)
        assert known.probabilities == pytest.approx(plain.probabilities, rel=1e-4, abs=1e-9)
        assert known.entropy == pytest.approx(plain.entropy, rel=1e-4)
        some = np.arange(0, 2000, 3)
        assert known.at(some).mass / known.mass == pytest.approx(plain.at(some).mass / plain.mass, rel=1e-5)


@given(
    st.integers(0, 1000),
    st.sampled_from([0.5, 4.0, 40.0]),
    st.sampled_from([-60.0, 0.0, 60.0]),
    st.sampled_from([1e-320, 1e-30, 0.01, 0.3, 0.9, 1.2, 2.0, 50.0, 1e9, 1e300]),
)
def test_sums_of_blocks_change_no_law_of_a_temperature(seed: int, scale: float, shift: float, divisor: float) -> None:
    rng = np.random.default_rng(seed)
    row = (rng.standard_normal(64) * scale + shift).astype(np.float32)
    row[rng.random(64) < 0.3] = -np.inf
    expected, found = law(Candidates(row).divided(divisor)), law(told(row).divided(divisor))
    assert {token: found.get(token, 0.0) for token in expected} == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert sum(found.values()) == pytest.approx(1.0)


def test_of_a_row_whose_sums_are_known_only_likely_blocks_are_read() -> None:
    row = np.zeros(4096, np.float32)
    row[100:104] = 12.0
    candidates = told(row)
    row[200:] = np.nan  # not what the sums were made from; whoever read it would find no distribution
    assert candidates.draw(Random(3)) in range(100, 104)
    assert TopP(0.9)(candidates, PROMPT).ids.tolist() == [100, 101, 102, 103]


@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 63), max_size=6, unique=True),
    st.sampled_from([-np.inf, -30.0, 0.0, 9.0, 60.0]),
)
def test_what_is_known_of_the_blocks_survives_the_replacement_of_some_logits(
    seed: int, places: list[int], value: float
) -> None:
    row = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    row[seed % 64] = 8.0
    expected = row.copy()
    expected[places] = value
    plain, known = Candidates(expected), told(row).replaced(np.array(places, np.intp), value)
    assert known.logits.tolist() == expected.tolist()
    assert known.logsumexp == pytest.approx(plain.logsumexp)
    assert (known.peak, known.argmax()) == (plain.peak, plain.argmax())
    assert law(known) == pytest.approx(law(plain), rel=1e-5, abs=1e-30)
    narrow = told(row).at(np.arange(0, 64, 2))
    assert narrow.replaced(np.array([1]), value).ids.tolist() == narrow.ids.tolist()


@pytest.mark.parametrize("divisor", [1.0, 10.0])
@pytest.mark.parametrize(("step", "count"), [(18.0, 6), (13.0, 8), (5.0, 20)])
def test_what_was_rounded_to_nothing_counts_once_all_that_was_larger_is_gone(
    step: float, count: int, divisor: float
) -> None:
    """Each ban alone was near enough to the one before; together they left probabilities above 1."""
    row = np.random.default_rng(0).normal(-90.0, 1.0, 64).astype(np.float32)
    row[::3][:count] = -step * np.arange(count)
    plain, known = Candidates(row), told(row)
    for place in range(0, 3 * count, 3):
        plain, known = (each.replaced(np.array([place]), -np.inf) for each in (plain, known))
        assert known.logsumexp == pytest.approx(plain.logsumexp, abs=1e-4)
        expected, found = law(plain.divided(divisor)), law(known.divided(divisor))
        assert {token: found.get(token, 0.0) for token in expected} == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_a_replacement_reads_only_the_blocks_it_is_in() -> None:
    row = np.zeros(4096, np.float32)
    row[100:104] = 12.0
    candidates = told(row)
    row[200:] = np.nan
    assert candidates.replaced(np.array([100, 101]), -np.inf).draw(Random(3)) in (102, 103)


@given(st.integers(0, 100), st.sampled_from([1, 256, 257, 5000]), st.sampled_from([np.float32, np.float64]))
def test_sums_lose_next_to_nothing(seed: int, size: int, kind: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(seed)
    weights, values = rng.random(size).astype(kind), rng.random(size).astype(kind)
    assert total(weights) == pytest.approx(weights.astype(np.float64).sum(), rel=3e-7)
    assert weighted_sum(weights, values) == pytest.approx(weights.astype(np.float64) @ values, rel=3e-7)
    with np.errstate(all="raise"):
        values[0], weights[0] = -np.inf, 0.0
        assert weighted_sum(weights, values) == pytest.approx(weights[1:].astype(np.float64) @ values[1:], rel=3e-7)


def test_what_is_left_when_the_likely_have_gone_keeps_its_proportions() -> None:
    # The weights of the whole row were carried along, and beside the best token these are 0.
    candidates = Candidates(np.array([200.0, 0.0, np.log(3.0)], np.float32))
    assert candidates.probabilities.tolist() == [1, 0, 0]
    left = candidates.without(np.array([0]))
    assert left.probabilities.tolist() == pytest.approx([0.25, 0.75])
    assert left.logprobs.tolist() == pytest.approx(np.log([0.25, 0.75]).tolist())


def test_log_probabilities_after_a_truncation_are_those_of_what_is_left() -> None:
    candidates = Candidates(np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32)))
    _ = candidates.weights
    left = candidates.only(np.array([1, 2, 3]))
    assert np.exp(left.logprobs).tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert left.entropy == pytest.approx(1.5 * np.log(2))


def test_blocks_count_for_the_very_logits_they_were_told_with() -> None:
    sequence = Vocabulary(8).prompt([0])
    logits = np.arange(8, dtype=np.float32)
    sequence.answered(logits, 0.0, np.array([logits.reshape(2, 4).max(axis=1), [1, 1]], np.float32))
    for same in (logits, logits[:], logits[None, :][-1]):
        assert sequence.told(same).blocks is not None
        assert sequence.logsumexp_of(same) == 0.0
    for other in (logits[::-1], logits[1:], logits.copy(), logits.view(np.int32)):
        assert sequence.told(other) is sequence.logsumexp_of(other) is None
    assert Candidates.after(sequence, np.roll(logits, 1)).argmax() == 0
    sequence.forget_answer()
    assert sequence.told(logits) is None


def test_a_row_where_nothing_is_possible_has_no_mass() -> None:
    nothing = np.full(3, -np.inf, np.float32)
    with np.errstate(all="raise"):
        assert logsumexp(nothing) == -np.inf
        assert log_softmax(nothing).tolist() == nothing.tolist()
        assert logsumexp(np.array([-np.inf, 2.0])) == 2.0


@pytest.mark.parametrize(
    ("candidates", "error"),
    [
        (Candidates(np.array([]), np.array([], np.intp)), DeadEnd),
        (Candidates(np.array([-np.inf, -np.inf])), DeadEnd),
        (Candidates(np.array([-np.inf, np.nan])), LogitsError),
        (Candidates(np.array([0.0, np.inf])), LogitsError),
    ],
    ids=["none", "impossible", "nan", "infinite"],
)
def test_a_dead_end_is_told_from_logits_that_are_wrong(candidates: Candidates, error: type[Exception]) -> None:
    with pytest.raises(LogitsError) as raised:
        _ = candidates.peak
    assert raised.type is error


def test_a_strategy_on_a_real_model_is_told_the_blocks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def after(sequence, logits):  # type: ignore[no-untyped-def]
        told.append(sequence.told(logits))
        return Candidates(logits)

    monkeypatch.setattr(Candidates, "after", after)
    list(Engine().run([Task(model, "The sky is", Greedy(), max_new_tokens=3)]))
    assert len(told) == 3
    for each in told:
        assert each.blocks.shape == (2, model.vocabulary.size // 64)
        np.testing.assert_allclose(each.weights, np.exp(each.logits - each.logits.max()), rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_exponentials_have_all_their_digits_or_are_0(kind: type[np.floating[Any]]) -> None:
    border = float(np.log(np.finfo(kind).tiny))
    below = kind([-np.inf, np.finfo(kind).min / 2, 30 * border, border - 5, border - 1, border - 1e-2])
    above = kind([border + 1e-2, border + 1, border / 2, -1, 0])
    for base in (0, 4):
        for least in (0, 1):  # of the numbers, whether or not there is one below
            row = np.concatenate([below[len(below) * least :], above]).repeat(64) + kind(base)
            found = exponentials(row, kind(base))[::64]
            assert found.dtype == kind
            assert not found[: -len(above)].any()
            assert found[-len(above) :] == pytest.approx(np.exp(above.astype(np.float64)), rel=1e-4)
            assert (found[-len(above) :] >= np.finfo(kind).tiny).all()


@pytest.mark.parametrize("divisor", [0.7, 1.0, 1.4])
def test_no_weight_is_a_number_that_is_slow_to_make(divisor: float) -> None:
    weights = Candidates(np.linspace(-200, 5, 1 << 14, dtype=np.float32)).divided(divisor).weights
    assert not ((weights > 0) & (weights < np.finfo(np.float32).tiny)).any()
    assert (weights == 0).any()


@pytest.mark.parametrize("shift", [-1e4, -45, -39, 0, 39, 45, 1e4])
@pytest.mark.parametrize("divisor", [0.1, 1.0, 30.0])
def test_probabilities_do_not_depend_on_where_the_logits_lie(shift: float, divisor: float) -> None:
    row = np.array([0, -1, -2, -20, -60, -np.inf]) + shift  # in double precision, where the shift costs few digits
    for kind, digits in ((np.float64, 1e-10), (np.float32, 1e-6 * max(1, abs(shift) / divisor))):
        found = Candidates(row.astype(kind)).divided(divisor)
        shares = np.exp((row - shift) / divisor)
        np.testing.assert_allclose(found.probabilities, shares / shares.sum(), rtol=digits, atol=1e-37)
        assert found.logsumexp == pytest.approx(shift / divisor + np.log(shares.sum()), rel=1e-6, abs=1e-6)
