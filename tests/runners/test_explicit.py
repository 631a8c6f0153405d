"""The cache of a real model in NumPy arrays, in f32."""

from __future__ import annotations

from typing import Any

import pytest

from ovdecode.errors import PrecisionError
from ovdecode.forward import Forward
from ovdecode.models import ModelFolder
from ovdecode.runners.explicit import ExplicitRunner
from ovdecode.runners.explicit_graph import to_explicit
from ovdecode.runners.precision import EXACT, self_test
from ovdecode.testing.runners import check_runner
from ovdecode.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model(smollm2_folder: ModelFolder) -> Any:
    import openvino as ov

    return ov.Core().read_model(smollm2_folder.xml)


@pytest.fixture(scope="module")
def runner(model: Any) -> ExplicitRunner:
    """Of an IR that has past inputs already."""
    return ExplicitRunner(to_explicit(model), properties=EXACT)


def test_any_tree_of_requests(runner: ExplicitRunner) -> None:
    assert (runner.name, runner.tolerance) == ("explicit", 1e-3)
    check_runner(runner, rounds=16)


def test_waste_is_given_up(runner: ExplicitRunner) -> None:
    check_runner(runner, seed=1, rounds=20, longest=10)


def test_a_stateful_model_is_rewritten(model: Any, runner: ExplicitRunner) -> None:
    fast = ExplicitRunner(model)
    assert (fast.precision, fast.tolerance) == ("fast", 1.5)
    self_test(fast)


def test_rows_that_stay_are_not_copied(runner: ExplicitRunner) -> None:
    vocabulary = Vocabulary(runner.vocab_size)
    pair = [vocabulary.prompt([1, 2, 3]), vocabulary.prompt([4, 5])]
    runner.forward([Forward(one) for one in pair])
    memory = runner._lanes[False]._memory
    before = memory._arrays["past_key_values.0.key"]  # type: ignore[attr-defined]
    taken: list[Any] = []
    gathered = memory._gathered  # type: ignore[attr-defined]
    memory._gathered = lambda name, step: taken.append(gathered(name, step)) or taken[-1]  # type: ignore[attr-defined]
    try:
        runner.forward([Forward(one + 7) for one in pair])
    finally:
        del memory._gathered  # type: ignore[attr-defined]
    assert taken[0] is before


@pytest.mark.parametrize("precision", ["invariant", "exact"])
def test_bits_are_not_promised(model: Any, precision: Any) -> None:
    with pytest.raises(PrecisionError, match="`explicit` runner"):
        ExplicitRunner(model, precision=precision)


def test_an_inference_that_nobody_waits_for(runner: ExplicitRunner) -> None:
    """An interrupt between start and wait must not free arrays that the request still writes."""
    sequence = Vocabulary(runner.vocab_size).prompt([1, 2, 3])
    for token in range(5):
        runner.submit([Forward(sequence + token)])
    (answer,) = runner.forward([Forward(sequence + 7)])
    expected = runner.recompute((sequence + 7).tokens, Forward(sequence))
    assert abs(answer.logits - expected.logits).max() < 1e-3
