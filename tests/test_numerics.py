"""Selections that read a part of a row find what a full sort finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Candidates, Greedy, Model, Task, Vocabulary
from ovdecode.engine import Engine
from ovdecode.errors import DeadEnd, LogitsError
from ovdecode.numerics import best_index, log_softmax, logsumexp, top_indices

BLOCK = 4


@given(
    st.lists(st.integers(-3, 3), min_size=24, max_size=24),  # few values, so many ties
    st.integers(1, 8),
)
def test_peaks_change_no_selection(values: list[int], count: int) -> None:
    row = np.array(values, np.float32)
    peaks = row.reshape(-1, BLOCK).max(axis=1)
    best = np.sort(np.argsort(-row, kind="stable")[:count])
    assert top_indices(row, count, peaks).tolist() == top_indices(row, count).tolist() == best.tolist()
    assert best_index(row, peaks) == best_index(row) == int(row.argmax())


def test_only_blocks_with_a_high_peak_are_read() -> None:
    row = np.arange(64, dtype=np.float32)
    peaks = row.reshape(-1, BLOCK).max(axis=1)
    row[:56] = np.nan  # whoever reads the lower blocks will find no order in them
    assert top_indices(row, 2, peaks).tolist() == [62, 63]
    assert best_index(row, peaks) == 63
    candidates = Candidates(row, peaks=peaks)
    assert (candidates.argmax(), candidates.peak, candidates.divided(0.5).top(2).logits.tolist()) == (
        63,
        63,
        [124, 126],
    )


def test_peaks_count_for_the_very_logits_they_were_told_with() -> None:
    sequence = Vocabulary(8).prompt([0])
    logits = np.arange(8, dtype=np.float32)
    sequence.answered(logits, 0.0, logits.reshape(2, 4).max(axis=1))
    assert sequence.peaks_of(logits) is not None
    assert sequence.peaks_of(logits[::-1]) is None
    assert sequence.peaks_of(logits[:]) is None
    assert Candidates.after(sequence, np.roll(logits, 1)).argmax() == 0
    sequence.forget_answer()
    assert sequence.peaks_of(logits) is None


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


def test_a_strategy_on_a_real_model_is_told_the_peaks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def after(sequence, logits):  # type: ignore[no-untyped-def]
        told.append(sequence.peaks_of(logits))
        return Candidates(logits)

    monkeypatch.setattr(Candidates, "after", after)
    list(Engine().run([Task(model, "The sky is", Greedy(), max_new_tokens=3)]))
    assert len(told) == 3
    assert all(peaks is not None and peaks.shape == (model.vocabulary.size // 64,) for peaks in told)
