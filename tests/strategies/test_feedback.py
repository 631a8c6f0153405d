"""Sampling with feedback against what llama.cpp did, step by step: see tests/data/presets/record_feedback.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovdecode as od
from ovdecode import AdaptivePSampling, Candidates, MirostatSampling, Model, TableRunner, Temperature
from ovdecode.errors import ConfigurationError
from ovdecode.processor import Chain
from ovdecode.testing import distribution

DATA = json.loads((Path(__file__).parents[1] / "data" / "presets" / "feedback.json").read_text())
ROWS = np.array(DATA["rows"], np.float32)
MAKE: dict[str, Any] = {
    "mirostat_1": lambda **parameters: MirostatSampling(version=1, **parameters),
    "mirostat_2": MirostatSampling,
    "adaptive_p": AdaptivePSampling,
}


@pytest.mark.parametrize("case", DATA["cases"], ids=lambda case: f"{case['sampler']}-{case['temperature']}")
def test_every_step_draws_from_what_llama_cpp_draws_from(case: dict[str, Any]) -> None:
    temperature = Chain() if case["temperature"] is None else Temperature(case["temperature"])
    strategy = MAKE[case["sampler"]](**case["parameters"], processors=temperature)
    state, sequence = strategy.start, od.Vocabulary(ROWS.shape[1]).prompt([0])
    for row, step in zip(ROWS, case["steps"], strict=True):
        candidates = strategy.candidates(row, sequence)
        left = strategy.steered(candidates, state, ROWS.shape[1])
        assert left.distribution(len(row)) == pytest.approx(step["distribution"], abs=2e-6)
        state = strategy.after(state, candidates, left, step["token"])


def test_a_certain_token_is_no_surprise() -> None:
    """Where one token is left, μ rises by eta · tau: 1, 1.5, then two tokens are left."""
    model = Model(TableRunner({(): np.log([0.5, 0.25, 0.125, 0.125])}))
    strategy = MirostatSampling(tau=0.5, eta=1.0)
    found = distribution(strategy, model, [0], max_new_tokens=3)
    assert found == pytest.approx({(0, 0, 0): 2 / 3, (0, 0, 1): 1 / 3})
    processor = od.Sampling(processors=od.Mirostat(tau=0.5, eta=1.0))
    assert distribution(processor, model, [0], max_new_tokens=3) == pytest.approx({(0, 0, 0): 1.0})  # it was one bit


def test_the_mean_is_of_what_the_processors_left() -> None:
    model = Model(TableRunner({(): np.log([0.5, 0.25, 0.25])}))
    strategy = AdaptivePSampling(0.5, decay=0.0, processors=od.TopK(2))  # of two thirds and a third
    first = strategy.steered(Candidates(np.log([2 / 3, 1 / 3])), 0.5, 3).probabilities
    after = [strategy.steered(Candidates(np.log([2 / 3, 1 / 3])), mean, 3).probabilities for mean in (2 / 3, 1 / 3)]
    expected = {(one, two): first[one] * after[one][two] for one in (0, 1) for two in (0, 1)}
    assert distribution(strategy, model, [0], max_new_tokens=2) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: MirostatSampling(tau=0), "tau"),
        (lambda: MirostatSampling(eta=-1), "eta"),
        (lambda: MirostatSampling(version=3), "version"),  # type: ignore[arg-type]
        (lambda: MirostatSampling(m=1), "m"),
        (lambda: AdaptivePSampling(1.5), "target"),
        (lambda: AdaptivePSampling(0.5, 1.0), "decay"),
    ],
)
def test_a_parameter_out_of_range_is_named(make: Any, parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        make()
