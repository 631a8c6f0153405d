"""Rows of the state of a real model, moved by `beam_idx`, in f32."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from ovdecode.errors import CacheError, ConfigurationError, ModelError, PrecisionError
from ovdecode.forward import Forward
from ovdecode.models import ModelFolder
from ovdecode.runners.explicit_graph import to_explicit
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.precision import EXACT, self_test
from ovdecode.runners.stateful import StatefulRunner
from ovdecode.testing.runners import check_runner
from ovdecode.vocabulary import Vocabulary

PROMPT = [6403, 1980, 253, 655, 28, 281, 253, 1165, 6560, 2141, 260, 5595]


@pytest.fixture(scope="module")
def model(smollm2_folder: ModelFolder) -> Any:
    import openvino as ov

    return ov.Core().read_model(smollm2_folder.xml)


@pytest.fixture(scope="module")
def runner(model: Any) -> StatefulRunner:
    return StatefulRunner(model, properties=EXACT)


def test_any_tree_of_requests(runner: StatefulRunner) -> None:
    assert runner.tolerance == 1e-3
    check_runner(runner, rounds=16)


def test_waste_is_given_up_on_a_real_state(runner: StatefulRunner) -> None:
    check_runner(runner, seed=1, rounds=20, longest=10)


def test_agrees_with_the_paged_runner(runner: StatefulRunner, model: Any) -> None:
    check_runner(runner, seed=2, rounds=8, reference=PagedRunner(model, precision="exact"))


def test_a_small_cache(model: Any) -> None:
    small = StatefulRunner(model, properties=EXACT, cache_bytes=100 * 46_080)
    check_runner(small, seed=3, rounds=16)
    with pytest.raises(CacheError, match="cache_bytes"):
        small.forward([Forward(Vocabulary(1000).prompt([1] * 101))])


def test_fast_is_the_default_and_says_so(model: Any) -> None:
    fast = StatefulRunner(model)
    assert (fast.precision, fast.tolerance) == ("fast", 1.5)
    self_test(fast)


@pytest.mark.parametrize("precision", ["invariant", "exact"])
def test_bits_are_not_promised(model: Any, precision: Any) -> None:
    with pytest.raises(PrecisionError, match=r"INFERENCE_PRECISION_HINT.*KV_CACHE_PRECISION.*paged"):
        StatefulRunner(model, precision=precision)


def test_bad_input(runner: StatefulRunner, model: Any) -> None:
    with pytest.raises(ConfigurationError, match="precision"):
        StatefulRunner(model, precision="double")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="stateful"):
        StatefulRunner(to_explicit(model))
    sequence = Vocabulary(1000).prompt([1, 2])
    with pytest.raises(ConfigurationError, match="layers"):
        runner.forward([Forward(sequence, layers=(31,))])
    with pytest.raises(ConfigurationError, match="vocabulary"):
        runner.forward([Forward(Vocabulary(10**6).prompt([1]))])


def test_no_row_is_left_and_recomputing_takes_none(runner: StatefulRunner) -> None:
    vocabulary = Vocabulary(runner.vocab_size)
    prompt = vocabulary.prompt(PROMPT)
    forks = [prompt + token for token in (1, 2, 3)]
    runner.forward([Forward(fork) for fork in forks])
    assert runner.cache_in_use == 3
    assert runner.cache_bytes == 3 * 13 * 46_080
    assert runner.missing(Forward(forks[1] + 5)) == 1
    runner.recompute(np.array(PROMPT * 5), Forward(prompt))
    assert runner.missing(Forward(forks[1] + 5)) == 1
    forks.pop()
    assert runner.cache_in_use == 3  # the prompt is alive in the third
    del prompt, forks
    gc.collect()
    assert (runner.cache_in_use, runner.cache_bytes) == (0, 0)


def test_a_row_that_is_only_brought_into_the_cache(runner: StatefulRunner) -> None:
    prompt = Vocabulary(runner.vocab_size).prompt(PROMPT)
    assert runner.missing(Forward(prompt)) == len(PROMPT)
    (nothing,) = runner.forward([Forward(prompt[:7], last=0)])
    assert nothing.logits.shape == (0, runner.vocab_size)
    assert runner.missing(Forward(prompt)) == len(PROMPT) - 7
    again = runner.forward([Forward(prompt[:7], last=0)])[0]
    assert again.logits.shape == (0, runner.vocab_size)
    assert not again.logits.flags.writeable


def test_an_inference_that_nobody_waits_for(runner: StatefulRunner) -> None:
    """An interrupt between start and wait must not free arrays that the request still writes."""
    sequence = Vocabulary(runner.vocab_size).prompt([1, 2, 3])
    for token in range(5):
        runner.submit([Forward(sequence + token)])
    (answer,) = runner.forward([Forward(sequence + 7)])
    expected = runner.recompute((sequence + 7).tokens, Forward(sequence))
    assert abs(answer.logits - expected.logits).max() < 1e-3
