"""Sampling as other engines do it: each one's order of stages, its defaults, and what it does with ties.

A table for each engine, read from its source and compared with recordings of it (tests/data/presets):

- `hf`: transformers 5.23, `GenerationMixin._get_logits_processor`.
- `llama.cpp`: llama-cpp-python 0.3.36; the order and the defaults are those of `common_params_sampling`. Its mirostat
  and adaptive-p, which steer by what was left at earlier steps, are strategies: see `feedback`.
- `genai`: openvino.genai 2026.4, `LogitProcessor`.
- `vllm`: vLLM 0.33, `Sampler`, the path without special kernels.
- `fairseq`: fairseq 0.12, `Sampling`, where top-p given makes top-k void.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ovdecode.errors import ConfigurationError, ParameterError
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import unknown
from ovdecode.strategies.processors.dry import Dry
from ovdecode.strategies.processors.penalties import FrequencyPenalty, PresencePenalty, RepetitionPenalty
from ovdecode.strategies.processors.shaping import XTC
from ovdecode.strategies.processors.shared import COLDEST
from ovdecode.strategies.processors.tails import TopH
from ovdecode.strategies.processors.temperature import Temperature
from ovdecode.strategies.processors.thresholds import Epsilon, Eta, TopNSigma
from ovdecode.strategies.processors.truncation import MinP, TopK, TopP, Typical

Make = Callable[..., LogitsProcessor | None]
Preset = Literal["hf", "llama.cpp", "genai", "vllm", "fairseq"]


@dataclass(frozen=True)
class Stage:
    """One stage of a chain.

    Attributes:
        defaults: the parameters that it reads, with the engine's defaults; one of None leaves the stage out.
        make: the processor that their values stand for, given in that order; None if these switch the stage off.
    """

    defaults: Mapping[str, float | None]
    make: Make


def chain(preset: Preset | None, given: Mapping[str, float | None]) -> LogitsProcessor:
    """What a preset makes of parameters.

    Args:
        preset: an engine; None for the methods as their papers define them, with nothing switched on by default.
        given: parameter to value; None where the engine's default holds.

    Raises:
        UnknownNameError: if there is no such preset.
        ConfigurationError: if the engine has no such parameter, or a value is out of range.
    """
    if preset not in list(PRESETS):
        raise unknown("preset of `sampling`:", str(preset), [name for name in PRESETS if name])
    defaults = {name: value for stage in PRESETS[preset] for name, value in stage.defaults.items()}
    values = {name: value for name, value in given.items() if value is not None}
    for name, value in values.items():
        if name not in defaults:
            raise ConfigurationError(
                f"`{name}` of `sampling` must be left out with preset={preset}, whose parameters are "
                f"{', '.join(defaults)}, got {value!r}; a chain of one's own goes into `processors`"
            )
    settings = {**defaults, **values}
    made = []
    for stage in PRESETS[preset]:
        arguments = {name: settings[name] for name in stage.defaults}
        missing = [name for name, value in arguments.items() if value is None]
        for name in stage.defaults if missing else ():
            if name in values:
                raise ConfigurationError(f"`{name}` of `sampling` must come with `{missing[0]}`, got it alone")
        processor = None if missing else _made(stage, arguments)
        if processor is not None:
            made.append(processor)
    return Chain(tuple(made))


def _made(stage: Stage, arguments: Mapping[str, float | None]) -> LogitsProcessor | None:
    """A stage's processor; an error names the parameter of `sampling`, not the processor's."""
    try:
        return stage.make(*arguments.values())
    except ParameterError as error:
        named = [name for name in arguments if name.endswith(error.parameter)] or list(arguments)
        raise ParameterError("sampling", named[0], error.requirement, error.value) from error


def _unless(off: float, make: Make) -> Make:
    """A stage that one value switches off."""
    return lambda value: None if value == off else make(value)


def _above(bound: float, make: Make) -> Make:
    """A stage for values above a bound; others switch it off."""
    return lambda value: make(value) if value > bound else None


def _below_one(make: Make) -> Make:
    """A stage for values below 1; others switch it off."""
    return lambda value: make(value) if value < 1 else None


def _xtc_then_temperature(probability: float, threshold: float, temperature: float) -> LogitsProcessor:
    if probability > 0 and threshold <= 0.5:
        return XTC(probability, threshold, temperature=max(temperature, COLDEST))
    return Temperature(temperature) if temperature > 0 else TopK(1)


def _top_p_or_top_k(p: float, k: int) -> LogitsProcessor | None:
    if p > 0:
        return TopP(p)
    return TopK(k) if k > 0 else None


PRESETS: Mapping[Preset | None, tuple[Stage, ...]] = {
    None: (
        Stage({"repetition_penalty": None}, RepetitionPenalty),
        Stage({"presence_penalty": None}, PresencePenalty),
        Stage({"frequency_penalty": None}, FrequencyPenalty),
        Stage({"dry_multiplier": None}, Dry),
        Stage({"top_n_sigma": None}, TopNSigma),
        Stage({"temperature": None}, Temperature),
        Stage({"top_h": None}, TopH),
        Stage({"top_k": None}, TopK),
        Stage({"top_p": None}, TopP),
        Stage({"min_p": None}, MinP),
        Stage({"typical": None}, Typical),
        Stage({"epsilon": None}, Epsilon),
        Stage({"eta": None}, Eta),
        Stage({"xtc_probability": None, "xtc_threshold": 0.1}, XTC),
    ),
    "hf": (
        Stage({"repetition_penalty": 1.0}, _unless(1, RepetitionPenalty)),
        Stage({"temperature": 1.0}, _unless(1, Temperature)),
        Stage({"top_h": None}, partial(TopH, rule="hf")),
        Stage({"top_k": 50}, _unless(0, partial(TopK, ties="keep"))),
        Stage({"top_p": 1.0}, _below_one(TopP)),
        Stage({"min_p": 0.0}, _unless(0, MinP)),
        Stage({"typical": 1.0}, _below_one(partial(Typical, ties="keep"))),
        Stage({"epsilon": 0.0}, _unless(0, Epsilon)),
        Stage({"eta": 0.0}, _unless(0, Eta)),
    ),
    "llama.cpp": (
        Stage({"repetition_penalty": 1.0}, _unless(1, partial(RepetitionPenalty, window=64))),
        Stage({"frequency_penalty": 0.0}, _unless(0, partial(FrequencyPenalty, window=64, prompt=True))),
        Stage({"presence_penalty": 0.0}, _unless(0, partial(PresencePenalty, window=64, prompt=True))),
        Stage({"dry_multiplier": 0.0}, _unless(0, Dry)),
        Stage({"top_n_sigma": -1.0}, _above(0, TopNSigma)),
        Stage({"top_k": 40}, _above(0, TopK)),
        Stage({"typical": 1.0}, _below_one(Typical)),
        Stage({"top_p": 0.95}, _below_one(TopP)),
        Stage({"min_p": 0.05}, _above(0, MinP)),
        Stage({"xtc_probability": 0.0, "xtc_threshold": 0.1, "temperature": 0.8}, _xtc_then_temperature),
    ),
    "genai": (
        Stage({"repetition_penalty": 1.0}, _unless(1, RepetitionPenalty)),
        Stage({"presence_penalty": 0.0}, _unless(0, partial(PresencePenalty, toward_zero=True))),
        Stage({"frequency_penalty": 0.0}, _unless(0, partial(FrequencyPenalty, toward_zero=True))),
        Stage({"top_k": None}, TopK),
        Stage({"temperature": 1.0}, _unless(1, Temperature)),
        # min-p comes first there, and top-p sums what it leaves without normalising it again: which is this order.
        Stage({"top_p": 1.0}, _below_one(TopP)),
        Stage({"min_p": 0.0}, _above(0, MinP)),
    ),
    "vllm": (
        Stage({"repetition_penalty": 1.0}, _unless(1, RepetitionPenalty)),
        Stage({"frequency_penalty": 0.0}, _unless(0, FrequencyPenalty)),
        Stage({"presence_penalty": 0.0}, _unless(0, PresencePenalty)),
        Stage({"temperature": 1.0}, _unless(1, lambda t: Temperature(max(t, 0.01)) if t >= 1e-5 else TopK(1))),
        Stage({"min_p": 0.0}, _above(0, MinP)),
        Stage({"top_k": 0}, _above(0, partial(TopK, ties="keep"))),
        Stage({"top_p": 1.0}, _below_one(TopP)),
    ),
    "fairseq": (
        Stage({"temperature": 1.0}, _unless(1, Temperature)),
        Stage({"top_p": -1.0, "top_k": -1}, _top_p_or_top_k),
    ),
}
"""Engine to its stages, in order."""
