"""Continuations are scored as NumPy scores the model's logits, all in one batch."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

import ovdecode as od
from ovdecode.clients.scoring import MAX_LIVE, ROWS, score
from ovdecode.errors import StrategyError
from ovdecode.forward import Forward
from ovdecode.numerics import log_softmax

# After a: b at 1/2, c and d at 1/4. After b: c for sure, nearly. After c and d: all alike.
HALF = [-np.inf, log(1 / 2), log(1 / 4), log(1 / 4)]
TABLE = od.TableRunner([HALF, [0, 0, 50, 0], [0, 0, 0, 0], [0, 0, 0, 0]])

PER_TOKEN = 2e-5
"""How far the log-sum-exp that the model's graph computes in single precision is from NumPy's in double."""


def scored(model: od.Model, pairs: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
    return [(logprob, greedy) for _, logprob, greedy in sorted(score(model, pairs))]


@pytest.mark.parametrize(
    ("context", "continuation", "probability", "greedy"),
    [
        ([0], [1], 1 / 2, True),
        ([0], [2], 1 / 4, False),
        ([0], [1, 2], 1 / 2, True),
        ([0], [3, 0], 1 / 16, False),
        ([3, 0], [1, 2, 0], 1 / 8, True),  # of tokens alike, the first is the greedy one
        ([3, 0], [1, 2, 1], 1 / 8, False),
        ([0], [], 1, True),
    ],
)
def test_a_continuation_has_the_product_of_its_tokens_probabilities(context, continuation, probability, greedy) -> None:
    ((logprob, flag),) = scored(od.Model(TABLE), [(context, continuation)])
    assert logprob == pytest.approx(log(probability), abs=1e-6)
    assert flag is greedy


def test_the_answers_are_those_of_numpy_on_the_real_model(model) -> None:
    text = model.encode("Once upon a time there was a small village at the edge of a wood. " * 4)
    pairs = [(text[:cut], text[cut : cut + size]) for cut, size in [(1, 1), (1, 50), (5, 3), (5, ROWS), (5, ROWS + 1)]]
    for (context, continuation), (logprob, greedy) in zip(pairs, scored(model, pairs), strict=True):
        sequence = model.vocabulary.prompt([*context, *continuation][:-1])
        rows = model.runner.forward([Forward(sequence, last=len(continuation))])[0].logits.astype(np.float64)
        expected = sum(log_softmax(row)[token] for row, token in zip(rows, continuation, strict=True))
        assert logprob == pytest.approx(expected, abs=PER_TOKEN * len(continuation))
        assert greedy == (rows.argmax(axis=1).tolist() == continuation)


def test_the_context_may_be_filled_to_its_end_and_no_further() -> None:
    model = od.Model(od.TableRunner(np.zeros((3, 3)), context_length=4))
    assert scored(model, [([0, 1, 2, 0], [1]), ([0], [1, 2, 0, 1])]) == [
        (pytest.approx(-log(3)), False),
        (pytest.approx(-4 * log(3)), False),
    ]
    with pytest.raises(StrategyError, match="context of 4 tokens"):
        scored(model, [([0, 1, 2, 0], [1, 2])])


def test_all_share_the_inferences() -> None:
    runner = od.TableRunner(np.zeros((3, 3)))
    calls, forward = [], runner.submit
    runner.submit = lambda requests: calls.append(len(requests)) or forward(requests)  # type: ignore[method-assign]
    pairs = [([index % 3], [index // 3 % 3, index // 9]) for index in range(MAX_LIVE)]
    assert len(scored(od.Model(runner), pairs)) == MAX_LIVE
    assert len(calls) == 1
