"""Gumbel noise by blocks: independent, of its law, and the largest sums are found without looking at all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ovdecode import Candidates, Random
from ovdecode.blocks import Blocks
from ovdecode.noise import GumbelNoise


def test_each_number_is_gumbel_and_no_two_depend_on_each_other() -> None:
    rows = np.array(
        [Random(key).gumbel_noise().of(np.arange(130)) for key in range(3000)]
    )  # (keys, tokens); blocks of 64
    for token in (0, 1, 63, 64, 129):
        assert stats.kstest(rows[:, token], "gumbel_r").pvalue > 1e-4
    correlation = np.corrcoef(rows.T) - np.eye(130)
    assert np.abs(correlation).max() < 0.1  # 5.5 standard errors
    blocks = rows[:, :128].reshape(-1, 2, 64)
    assert stats.kstest((blocks.max(axis=2) - np.log(64)).ravel(), "gumbel_r").pvalue > 1e-4
    assert stats.chisquare(np.bincount(blocks.argmax(axis=2).ravel(), minlength=64)).pvalue > 1e-4
    second = np.sort(blocks, axis=2)[:, :, -2]  # E / 64, then the first of 63 others
    gaps = np.exp(-second) - np.exp(-blocks.max(axis=2))
    assert stats.kstest(63 * gaps.ravel(), "expon").pvalue > 1e-4


def test_a_token_has_the_same_noise_in_any_company() -> None:
    noise = Random(3).gumbel_noise()
    together = noise.of(np.arange(200))
    assert noise.of(np.array([7, 130])).tolist() == together[[7, 130]].tolist()
    assert noise.of(np.array([[7], [130]])).tolist() == together[[[7], [130]]].tolist()
    rng = Random(3)
    assert rng.gumbel_noise().of(np.arange(200)).tolist() == together.tolist()
    assert rng.gumbel_noise().of(np.arange(200)).tolist() != together.tolist()


def told(row: np.ndarray[Any, Any]) -> Candidates:
    """All tokens, with what a graph says of every 64."""
    blocks = row.reshape(-1, 64)
    return Candidates(row, blocks=Blocks(blocks.max(axis=1), np.exp(blocks - row.max()).sum(axis=1)))


@given(
    st.integers(0, 1000),
    st.sampled_from([0.0, 1.0, 4.0, 20.0]),
    st.integers(1, 1500),
    st.sampled_from([0.0, 0.5, 0.9999]),
    st.sampled_from([1.0, 0.3]),
)
def test_the_largest_sums_are_those_of_all(key: int, scale: float, count: int, gone: float, divisor: float) -> None:
    rng = np.random.default_rng(key)
    row = (rng.standard_normal(64 * 40) * scale).astype(np.float32)
    row[rng.random(len(row)) < gone] = -np.inf
    row[5] = 0.0
    candidates, noise = told(row).divided(divisor), GumbelNoise(np.array([key], np.uint64))
    sums = candidates.logits + noise.of(np.arange(len(row)))
    order = np.argsort(-sums, kind="stable")[:count]
    order = order[sums[order] > -np.inf]
    for each in (candidates, Candidates(row).divided(divisor)):
        positions, found = noise.largest(each, count)
        assert positions.tolist() == order.tolist()
        assert found.tolist() == sums[order].tolist()
    narrow = candidates.only(np.array([5, 70, 2000]))
    positions, found = noise.largest(narrow, 3)
    assert found.tolist() == sorted(sums[[5, 70, 2000]][narrow.logits > -np.inf].tolist(), reverse=True)
    assert narrow.ids[positions[0]] in (5, 70, 2000)


def test_blocks_whose_first_comes_too_late_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    made = GumbelNoise._noise
    monkeypatch.setattr(GumbelNoise, "_noise", lambda *args: looked.append(args[1].size) or made(*args))
    row = np.zeros(64 * 768, np.float32)
    row[12_345], row[40_000] = 40, 18
    positions, _ = GumbelNoise(np.zeros(1, np.uint64)).largest(told(row), 1)
    assert positions.tolist() == [12_345]
    assert sum(looked) < 64 * 40
