"""Presets against what the engines themselves did with the same logits: see tests/data/presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from scipy.stats import chisquare

from ovdecode import (
    MinP,
    Model,
    RepetitionPenalty,
    Sampling,
    TableRunner,
    Temperature,
    TopK,
    TopP,
    Vocabulary,
    parse,
)
from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.strategies.presets import PRESETS, Preset
from ovdecode.testing import distribution

DATA = Path(__file__).parents[1] / "data" / "presets"
EXACT = ["hf", "llama.cpp", "vllm", "fairseq"]
"""Engines whose distributions could be recorded; openvino.genai's could only be drawn from."""
TOLERANCE = 2e-7
"""Engines compute in single precision, and seven places are recorded."""


def test_the_names_of_presets_are_those_of_the_type() -> None:
    assert list(PRESETS) == [None, *get_args(Preset)]
    with pytest.raises(UnknownNameError, match=r"unknown preset of `sampling`: `lama\.cpp`; did you mean `llama\.cpp`"):
        Sampling(preset="lama.cpp")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="known: fairseq, genai"):
        Sampling(preset=[3])  # type: ignore[arg-type]


def recorded(engine: str) -> list[Any]:
    data = json.loads((DATA / f"{engine}.json").read_text())
    return [
        pytest.param(data["rows"][case["row"]], case, id=f"{engine}-{case['row']}-{case['parameters']}")
        for case in data["cases"]
    ]


def ours(engine: str, row: dict[str, Any], parameters: dict[str, Any]) -> np.ndarray:
    """The distribution that the preset gives, shape (vocab,)."""
    logits = np.array(row["logits"], np.float32)
    sequence = Vocabulary(len(logits)).prompt(row["prompt"]) + row["generated"]
    return Sampling(preset=engine, **parameters).candidates(logits, sequence).distribution(len(logits))


def equals(row: dict[str, Any]) -> list[np.ndarray]:
    """The tokens in groups of equal logits: which of them stay, an engine leaves to the sort that it uses."""
    logits = np.array(row["logits"])
    return [np.flatnonzero(logits == logit) for logit in np.unique(logits)]


@pytest.mark.parametrize(("row", "case"), [case for engine in EXACT for case in recorded(engine)])
def test_the_distribution_is_that_of_the_engine(
    row: dict[str, Any], case: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    engine = request.node.callspec.id.split("-")[0]
    found, expected = ours(engine, row, case["parameters"]), np.array(case["distribution"])
    for group in equals(row):
        assert np.sort(found[group]) == pytest.approx(np.sort(expected[group]), abs=TOLERANCE)


@pytest.mark.parametrize(("row", "case"), recorded("genai"))
def test_draws_of_openvino_genai_follow_the_distribution(row: dict[str, Any], case: dict[str, Any]) -> None:
    found, counts = ours("genai", row, case["parameters"]), np.array(case["counts"])
    likely = found[found > 0].min() * counts.sum() > 20  # then a token that is possible was drawn
    expected, drawn = [], []
    for group in equals(row):
        if likely:
            assert np.count_nonzero(found[group]) == np.count_nonzero(counts[group])
        if not found[group].any():
            assert not counts[group].any()
        else:
            expected.append(found[group].sum() * counts.sum())
            drawn.append(counts[group].sum())
    assert len(drawn) == 1 or chisquare(drawn, expected).pvalue > 1e-4


def test_every_engine_is_recorded() -> None:
    assert {path.stem for path in DATA.glob("*.json")} >= {name for name in PRESETS if name}


def test_every_parameter_of_every_engine_is_recorded() -> None:
    for engine, stages in PRESETS.items():
        if engine:
            named = {name for stage in stages for name in stage.defaults}
            tried = {name for case in recorded(engine) for name in case.values[1]["parameters"]}
            assert named == tried, engine


def test_defaults_of_the_engines() -> None:
    assert str(Sampling(preset="hf").chain) == "top_k:k=50,ties=keep"
    assert str(Sampling(preset="llama.cpp").chain) == "top_k:k=40|top_p:p=0.95|min_p:p=0.05|temperature:temperature=0.8"
    for engine in ("genai", "vllm", "fairseq"):
        assert Sampling(preset=engine).chain.stages == ()


def test_an_engine_switches_off_with_its_own_values() -> None:
    off = {"hf": {"top_k": 0}, "llama.cpp": {"top_k": -1, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}}
    assert Sampling(preset="hf", **off["hf"]).chain.stages == ()
    assert Sampling(preset="llama.cpp", **off["llama.cpp"]).chain.stages == (Temperature(1.0),)


def test_hf_keeps_ties_and_llama_cpp_does_not() -> None:
    model = Model(TableRunner({(): [2.0, 1.0, 1.0, 0.0]}))
    kept = {
        engine: set(distribution(f"sampling:preset={engine},top_k=2,temperature=1.0", model, [0], max_new_tokens=1))
        for engine in ("hf", "llama.cpp")
    }
    assert kept == {"hf": {(0,), (1,), (2,)}, "llama.cpp": {(0,), (1,)}}


def test_temperature_comes_last_in_llama_cpp_and_first_in_hf() -> None:
    # Of halves, a quarter and two eighths, min-p 0.3 keeps two; of their squares, one.
    model = Model(TableRunner({(): np.log([0.5, 0.25, 0.125, 0.125])}))
    kept = {
        engine: len(distribution(f"sampling:preset={engine},temperature=0.5,min_p=0.3", model, [0], max_new_tokens=1))
        for engine in ("hf", "llama.cpp")
    }
    assert kept == {"hf": 1, "llama.cpp": 2}


def test_processors_come_before_the_preset() -> None:
    assert Sampling(preset="fairseq", top_k=3, processors=Temperature(2.0)).chain.stages == (Temperature(2.0), TopK(3))


@pytest.mark.parametrize("spec", ["sampling:preset=llama.cpp", "sampling:top_k=20,preset=vllm"])
def test_specs_of_presets(spec: str) -> None:
    assert str(parse(spec)) == spec


def test_an_unknown_preset_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown preset of `sampling`: `llamacpp`; did you mean `llama.cpp`"):
        Sampling(preset="llamacpp")


def test_a_parameter_that_the_engine_lacks_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="`typical` of `sampling` must be left out with preset=vllm"):
        Sampling(preset="vllm", typical=0.9)
    with pytest.raises(ConfigurationError, match=r"`min_p` of `sampling`.*fairseq.*temperature, top_p, top_k"):
        Sampling(preset="fairseq", min_p=0.1)


def test_a_parameter_that_means_nothing_alone_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="`xtc_threshold` of `sampling` must come with `xtc_probability`"):
        Sampling(xtc_threshold=0.2)
    assert Sampling(xtc_threshold=0.2, preset="llama.cpp").chain == Sampling(preset="llama.cpp").chain


def test_a_value_that_the_engine_refuses_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="`temperature`"):
        Sampling(preset="hf", temperature=0.0)


def test_on_a_real_model(model: Model) -> None:
    prompt, options = "one two one two", {"max_new_tokens": 4, "seed": 3}
    preset = model.generate(prompt, "sampling:preset=llama.cpp,repetition_penalty=1.2", **options)
    chain = RepetitionPenalty(1.2, window=64) | TopK(40) | TopP(0.95) | MinP(0.05) | Temperature(0.8)
    assert preset.tokens == model.generate(prompt, Sampling(processors=chain), **options).tokens
