"""The three named precisions: what they ask of the device, and the test that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ovdecode.errors import PrecisionError
from ovdecode.forward import Forward, Logits
from ovdecode.runners.base import ModelRunner, Precision
from ovdecode.vocabulary import Vocabulary

if TYPE_CHECKING:
    import openvino as ov

EXACT: Mapping[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
"""f32 throughout."""
PROPERTIES: Mapping[Precision, Mapping[str, Any]] = {
    "fast": {},
    "invariant": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16"},
    "exact": EXACT,
}
"""What makes a device compute in a named precision. `fast` asks for nothing. `invariant` leaves the device one of its
defaults, to quantise the activations of products, which then take no longer than in bf16. In bf16 a graph that also
outputs hidden states has other logits, and products of few rows have other bits than those of many. Its cache in f16
takes 3 to 10 % less of a step than one in f32, and half the memory; either is 0.003 nats a token from `exact`."""
_INFERENCE, _CACHE = "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION"
_SIDES = {_CACHE: ("KEY_CACHE_PRECISION", "VALUE_CACHE_PRECISION")}
"""Properties that a device may have beside another one, and that win over it there."""


def options_for(precision: Precision, properties: Mapping[str, Any], core: ov.Core, device: str) -> dict[str, Any]:
    """How a graph with a cache in pages is compiled: as the precision asks, and the user.

    In `fast`, where the user does not say how to keep the cache, a CPU that infers in bf16 keeps it in bf16. By default
    it would take 8 bits, which are half the memory, but 3 to 5 % more time, and 0.0042 nats a token from f32 in place
    of 0.0036. Where it infers in f32, 16 bits would save no time.

    Raises:
        PrecisionError: if the properties contradict the precision.
    """
    wanted = PROPERTIES[precision]
    check_properties(precision, wanted, properties)
    said = {_CACHE, *_SIDES[_CACHE]} & properties.keys()
    if precision == "fast" and device == "CPU" and not said and _infers(properties, core, device) == "bf16":
        wanted = {**wanted, _CACHE: "bf16"}
    return {**wanted, **properties}


def _infers(properties: Mapping[str, Any], core: ov.Core, device: str) -> str:
    """The type in which a device infers."""
    return _spelled(properties.get(_INFERENCE, core.get_property(device, _INFERENCE)))


def quantise_by_token(core: ov.Core, device: str) -> None:
    """Where a CPU quantises the cache, let it give the key of every token a scale of its own, as it does with values.

    By default a scale belongs to one number of all keys in a page, so that every new token quantises the page anew: a
    step takes 6 % longer with 32 sequences, and what is in the cache depends on what was there before. The property is
    not public: an OpenVINO that does not know it keeps to its own way.
    """
    with suppress(RuntimeError):
        core.set_property(device, {"KEY_CACHE_QUANT_MODE": "BY_TOKEN"})


def check_properties(precision: Precision, wanted: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
    """Refuse properties that contradict those of a named precision.

    Raises:
        PrecisionError: if one does.
    """
    for name, value in wanted.items():
        for each in (name, *_SIDES.get(name, ())):
            if each in properties and _spelled(properties[each]) != _spelled(value):
                raise PrecisionError(
                    f"`properties` must leave {each} at {value} for precision={precision!r}, got "
                    f"{_spelled(properties[each])}; leave it out, or use precision='fast'"
                )


def check_compiled(precision: Precision, wanted: Mapping[str, Any], compiled: ov.CompiledModel) -> None:
    """Check that a compiled model has the properties of a named precision.

    Raises:
        PrecisionError: if it has not.
    """
    if found := unmet(wanted, compiled):
        raise PrecisionError(
            f"precision={precision!r} must run with {dict(wanted)}, but the device has {found}; "
            "use precision='fast', or leave out the `properties` that bring this about"
        )


def unmet(wanted: Mapping[str, Any], compiled: ov.CompiledModel) -> dict[str, str]:
    """Those properties of a compiled model that are not as wanted, with what they are."""
    found = {}
    for name, value in wanted.items():
        for each in (name, *_SIDES.get(name, ())):
            setting = compiled_setting(compiled, each)
            if _spelled(setting) != _spelled(value) and not (setting is None and each != name):
                found[each] = _spelled(setting)
    return found


def compiled_setting(compiled: ov.CompiledModel, name: str) -> Any:
    """A property that a compiled model has, or None."""
    try:
        return compiled.get_property(name)
    except RuntimeError:
        return None


def _spelled(value: Any) -> str:
    """A property's value as a user writes it: an OpenVINO type by its name."""
    return str(value.get_type_name() if hasattr(value, "get_type_name") else value).lower()


def self_test(runner: ModelRunner) -> None:
    """Check, on this very machine, that a runner's answers do not depend on how it came to them.

    A few tokens are fed at once, in pieces, taken back and fed again, and in company. In `invariant` and `exact` all
    must have the same bits; in `fast` they must be finite and near each other. A runner that
    remembers to have passed is not tested again.

    Raises:
        PrecisionError: if they do not.
    """
    if runner.tested:
        return
    tokens = [(7 * place) % min(runner.vocab_size, 1000) for place in range(1, 46)]
    known = _answers(runner, tokens, [45])
    for pieces in ([20, 45], [44, 45], [*range(40, 46)]):
        _compare(runner, known, _answers(runner, tokens, pieces), f"in {len(pieces)} pieces")
    _compare(runner, known, _answers(runner, tokens, [30, 45], others=3), "in a batch of 4")
    _compare(runner, known, _answers(runner, tokens, [44, 45, 38, 45]), "after taking tokens back")
    runner.note_tested()


def _answers(runner: ModelRunner, tokens: list[int], lengths: list[int], others: int = 0) -> Logits:
    vocabulary = Vocabulary(runner.vocab_size)
    sequence = vocabulary.prompt(tokens)
    company = [vocabulary.prompt([other + 1, *tokens[:20]]) for other in range(others)]
    logits = np.empty((0, 0), np.float32)
    for length in lengths:
        requests = [Forward(one) for one in company] + [Forward(sequence[:length])]
        logits = runner.forward(requests)[-1].logits
    return logits


def _compare(runner: ModelRunner, one: Logits, other: Logits, how: str) -> None:
    if not np.isfinite(one).all() or not np.isfinite(other).all():
        raise PrecisionError(f"`{runner.name}` must give finite logits, but in `{runner.precision}` it does not {how}")
    difference = float(np.abs(one - other).max())
    if runner.precision == "fast":
        holds = difference < 0.1 * float(np.abs(one).max())
    else:
        holds = one.tobytes() == other.tobytes()
    if not holds:
        raise PrecisionError(
            f"precision `{runner.precision}` must not depend on the batch, but on this machine the logits of "
            f"`{runner.name}` differ by {difference:.2g} {how}; use precision='fast'"
        )
