"""The self-test refuses what does not hold, and properties may not undo a named precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from typing import Any, cast

import numpy as np
import pytest

from ovdecode.errors import PrecisionError
from ovdecode.forward import Answer, Forward
from ovdecode.models import ModelFolder
from ovdecode.runners.base import Pending, Precision
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.precision import EXACT, check_compiled, check_properties, options_for, self_test, unmet
from ovdecode.runners.stateful import StatefulRunner
from ovdecode.runners.table import TableRunner
from ovdecode.sequence import Sequence

Fault = Callable[[Items[Forward], "list[Sequence]"], float]
FAULTS: dict[str, Fault] = {
    "in a batch of 4": lambda requests, seen: len(requests) - 1.0,
    "in 2 pieces": lambda requests, seen: float(requests[-1].sequence[:20] in seen),
    "in 6 pieces": lambda requests, seen: float(requests[-1].sequence[:41] in seen),
    "after taking tokens back": lambda requests, seen: float(requests[-1].sequence in seen),
}


class Faulty(TableRunner):
    """Logits of a table, which are shifted by what ought to make no difference."""

    def __init__(self, precision: Precision, fault: Fault, size: float) -> None:
        super().__init__(np.eye(9, dtype=np.float32))
        self.precision, self._fault, self._size = precision, fault, size
        self._seen: list[Sequence] = []

    def submit(self, requests: Items[Forward]) -> Pending:
        shift = np.float32(self._size * self._fault(requests, self._seen))
        self._seen += [request.sequence for request in requests]
        answers = super().submit(requests)()
        return lambda: [Answer(answer.logits + shift, answer.logsumexp, None, None) for answer in answers]


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize(("precision", "size"), [("fast", 0.2), ("invariant", 1e-6), ("exact", 1e-6)])
def test_logits_that_depend_on_how_they_came_about(precision: Precision, size: float, how: str) -> None:
    with pytest.raises(PrecisionError, match=f"`{precision}` must not depend on the batch.*`table` differ by .*{how}"):
        self_test(Faulty(precision, FAULTS[how], size))


def test_fast_may_differ_a_little() -> None:
    self_test(Faulty("fast", FAULTS["in a batch of 4"], 1e-3))


@pytest.mark.parametrize("precision", ["fast", "invariant", "exact"])
@pytest.mark.parametrize("how", ["in 2 pieces", "in a batch of 4"])
def test_logits_that_are_no_numbers(precision: Precision, how: str) -> None:
    def spoils(requests: Items[Forward], seen: list[Sequence]) -> float:
        return float("nan") if FAULTS[how](requests, seen) else 0.0

    for fault in (spoils, lambda requests, seen: float("nan")):
        with pytest.raises(PrecisionError, match=f"`table` must give finite logits, but in `{precision}`"):
            self_test(Faulty(precision, cast(Fault, fault), 1.0))


@pytest.mark.parametrize("precision", ["fast", "invariant", "exact"])
def test_a_runner_that_keeps_its_word(precision: Precision) -> None:
    self_test(Faulty(precision, lambda requests, seen: 0.0, 1.0))


# Properties


@pytest.fixture(scope="module")
def graph(smollm2_folder: ModelFolder) -> Any:
    import openvino as ov

    return ov.Core().read_model(smollm2_folder.xml)


class Compiled:
    """Says what it was told."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def get_property(self, name: str) -> Any:
        if name not in self.settings:
            raise RuntimeError(f"Unsupported property {name}")
        return self.settings[name]


@pytest.mark.parametrize(
    "properties",
    [
        {"KV_CACHE_PRECISION": "u8"},
        {"INFERENCE_PRECISION_HINT": "bf16"},
        {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32},
        {"KEY_CACHE_PRECISION": "u8", "VALUE_CACHE_PRECISION": "u8"},
    ],
)
def test_properties_that_contradict_exact(graph: Any, properties: dict[str, Any]) -> None:
    """They won over the precision's own, and `exact` was reported all the same."""
    with pytest.raises(PrecisionError, match=rf"`properties` must leave {next(iter(properties))} at .*'exact'"):
        PagedRunner(graph, precision="exact", properties=properties)


def test_properties_that_contradict_invariant(graph: Any) -> None:
    with pytest.raises(PrecisionError, match=r"KV_CACHE_PRECISION.*'invariant', got u8"):
        PagedRunner(graph, precision="invariant", properties={"KV_CACHE_PRECISION": "u8"})


def test_properties_that_agree() -> None:
    import openvino as ov

    agreeing = {"KV_CACHE_PRECISION": ov.Type.f32, "INFERENCE_PRECISION_HINT": "F32", "INFERENCE_NUM_THREADS": 1}
    check_properties("exact", EXACT, agreeing)
    check_properties("fast", {}, {"KV_CACHE_PRECISION": "u8"})


def test_what_was_compiled_is_read_back() -> None:
    """A device may overlook a property, or know another one that wins over it."""
    import openvino as ov

    held = {
        "INFERENCE_PRECISION_HINT": ov.Type.f32,
        "KV_CACHE_PRECISION": ov.Type.f32,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    check_compiled("exact", EXACT, cast(Any, Compiled(held)))
    for name, value in {"KEY_CACHE_PRECISION": ov.Type.u8, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}.items():
        with pytest.raises(PrecisionError, match=rf"'exact' must run with .*, but the device has \{{'{name}'"):
            check_compiled("exact", EXACT, cast(Any, Compiled({**held, name: value})))
    del held["KV_CACHE_PRECISION"]
    assert unmet(EXACT, cast(Any, Compiled(held))) == {"KV_CACHE_PRECISION": "none"}


def test_a_cache_of_the_users_own() -> None:
    """Fast keeps bf16 where it infers in that, unless anything is said of it: the device refuses most mixtures."""

    def options(properties: dict[str, Any], infers: str = "bf16", device: str = "CPU") -> dict[str, Any]:
        return options_for("fast", properties, cast(Any, Machine(infers)), device)

    assert options({"INFERENCE_NUM_THREADS": 1}) == {"KV_CACHE_PRECISION": "bf16", "INFERENCE_NUM_THREADS": 1}
    for own in ({"KV_CACHE_PRECISION": "u8"}, {"KEY_CACHE_PRECISION": "u8"}, {"VALUE_CACHE_PRECISION": "u8"}):
        assert options(own) == own
    assert options({"INFERENCE_PRECISION_HINT": "f32"}) == {"INFERENCE_PRECISION_HINT": "f32"}
    assert options({}, "f32") == options({}, device="GPU") == {}
    assert options_for("exact", {}, cast(Any, Machine("bf16")), "CPU") == EXACT


class Machine:
    """A device that infers in a given precision."""

    def __init__(self, infers: str) -> None:
        self._infers = infers

    def get_property(self, device: str, name: str) -> str:
        assert name == "INFERENCE_PRECISION_HINT"
        return self._infers


@pytest.mark.parametrize(
    ("bits", "page_bytes"),
    [
        ("f16", 737_280),  # 30 layers, keys and values, 3 heads, 32 tokens, 64 wide
        ("u8", 414_720),  # and 8 bytes of scales for each token
        ("u4", 230_400),
    ],
)
def test_a_cache_of_so_many_bits(graph: Any, bits: str, page_bytes: int) -> None:
    """A cache in four bits once failed: its arrays were taken to be twice as large as they are."""
    properties = {"INFERENCE_NUM_THREADS": 2, "KV_CACHE_PRECISION": bits}
    runner = PagedRunner(graph, properties=properties, cache_bytes=1 << 28)
    self_test(runner)
    assert runner.token_bytes == page_bytes // 32


def test_f32_is_told_only_where_all_is_f32(graph: Any) -> None:
    """Keys and values in u8 beside a cache "in f32" made the stateful runner promise 1e-3."""
    sides = {"KEY_CACHE_PRECISION": "u8", "VALUE_CACHE_PRECISION": "u8"}
    assert StatefulRunner(graph, properties={**EXACT, **sides}).tolerance == 1.5
