"""From a source to a model: which runner is chosen, what is refused, and what is said."""

from __future__ import annotations

import gc
import logging
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

import ovdecode as od
from ovdecode import loading
from ovdecode.errors import ConfigurationError, ModelError, PrecisionError
from ovdecode.models import ModelFolder
from ovdecode.runners.explicit_graph import to_explicit
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.paging import PagingUnsupported

pytestmark = pytest.mark.usefixtures("smollm2_folder")


def load(source: Any = "smollm2", **options: Any) -> od.Model:
    return od.load(source, **{"threads": 2, "progress": False, **options})


@pytest.fixture
def unpageable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: PagedRunner, *arguments: Any, **options: Any) -> None:
        raise PagingUnsupported("no such transformation")

    monkeypatch.setattr(PagedRunner, "__init__", refuse)


@pytest.fixture
def uncompilable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that has no paged attention."""

    def refuse(self: PagedRunner, *arguments: Any, **options: Any) -> None:
        raise RuntimeError("Exception from src/core.cpp:117:\nnot implemented: PagedAttention")

    monkeypatch.setattr(PagedRunner, "__init__", refuse)


@pytest.fixture
def untrue(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(runner: Any) -> None:
        if runner.name == "paged":
            raise PrecisionError("logits differ by 7")

    monkeypatch.setattr("ovdecode.runners.precision.self_test", fail)


@pytest.fixture
def tabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled."""
    monkeypatch.setattr(loading, "_make_runner", lambda *arguments: od.TableRunner([[0.0]]))


# The runner


@pytest.mark.parametrize(
    ("fixture", "reason"),
    [
        ("unpageable", "no such"),
        ("uncompilable", "refuses 'CPU' with {.*: not implemented: PagedAttention"),
        ("untrue", "logits differ by 7"),
    ],
)
def test_what_can_not_run_paged_runs_stateful_with_one_line(
    fixture: str, reason: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    request.getfixturevalue(fixture)
    with caplog.at_level(logging.INFO, "ovdecode"):
        model = load()
    assert model.runner.name == "stateful"
    (line,) = (record for record in caplog.records if record.name.startswith("ovdecode"))
    assert "`smollm2` can't run paged, so the stateful runner is used" in line.getMessage()
    assert re.search(reason, line.getMessage())
    assert len(model.generate("Once upon", max_new_tokens=3).tokens) == 3


@pytest.mark.usefixtures("unpageable")
@pytest.mark.parametrize("precision", ["invariant", "exact"])
def test_bits_are_not_promised_where_nothing_can_be_paged(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PrecisionError, match=f"`precision` must be 'fast' .*no such.*got '{precision}'"):
        load(precision=precision)
    assert not caplog.records


@pytest.mark.usefixtures("untrue")
def test_a_precision_that_fails_its_test_is_refused() -> None:
    with pytest.raises(PrecisionError, match="logits differ by 7"):
        load(precision="invariant")


@pytest.mark.usefixtures("unpageable")
def test_the_runner_that_was_asked_for_or_none() -> None:
    with pytest.raises(PagingUnsupported, match="no such"):
        load(runner="paged")


def test_a_model_with_past_inputs_runs_explicit(smollm2_folder: ModelFolder, tmp_path: Path) -> None:
    import openvino as ov

    for file in smollm2_folder.path.iterdir():
        if not file.name.startswith("openvino_model"):
            shutil.copy(file, tmp_path)
    explicit = to_explicit(ov.Core().read_model(smollm2_folder.xml))
    ov.save_model(explicit, tmp_path / "openvino_model.xml", compress_to_fp16=False)
    model = load(tmp_path)
    assert model.runner.name == "explicit"
    assert len(model.generate("Once upon", max_new_tokens=3).tokens) == 3
    with pytest.raises(PrecisionError, match="`explicit` runner"):
        load(tmp_path, precision="exact")
    with pytest.raises(PagingUnsupported, match="must be stateful to be paged"):
        load(tmp_path, runner="paged")


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runner": "page"}, r"`runner` must be one of auto, paged, stateful, explicit, got 'page'"),
        ({"precision": "f32"}, r"`precision` must be one of fast, invariant, exact, got 'f32'"),
        ({"tokenizer": "fast"}, r"`tokenizer` must be one of huggingface, openvino, got 'fast'"),
        *(
            ({"threads": threads}, r"`threads` must be a whole number of at least 1")
            for threads in (0, -2, 1.5, "2", True)
        ),
        *(
            ({"cache_bytes": size}, r"`cache_bytes` must be a whole number of at least 1")
            for size in (0, -1, 4e9, "4", True, None)
        ),
        ({"device": "NOPE"}, r"`device` must be one of .*CPU.* `properties`.*refuses 'NOPE'.*not registered"),
        ({"properties": {"NOPE": 1}}, r"`properties`.*'NOPE': 1.*Unsupported property NOPE by CPU"),
    ],
)
@pytest.mark.parametrize("runner", ["auto", "paged", "stateful"])
def test_options_that_are_none(
    runner: str, options: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown device or property was OpenVINO's own error, without the name of a parameter."""
    with pytest.raises(ConfigurationError, match=message):
        load(**{"runner": runner, **options})
    assert not caplog.records


def test_an_unknown_device_in_a_named_precision() -> None:
    with pytest.raises(ConfigurationError, match="refuses 'NOPE'"):
        load(device="NOPE", precision="invariant")


def test_properties_must_not_undo_the_precision() -> None:
    with pytest.raises(PrecisionError, match="`properties` must leave KV_CACHE_PRECISION at f32"):
        load(precision="exact", properties={"KV_CACHE_PRECISION": "u8"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int3"}, "`weights` must be one of int8, f16, got 'int3'"),
        ({"properties": 5}, "`properties` must map names of OpenVINO properties to values, got 5"),
        ({"properties": {"CACHE_DIR": 5}}, "`CACHE_DIR` among the `properties` must be a folder .* got 5"),
    ],
)
def test_choices_and_properties_that_are_none(tabled: None, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(**options)


def test_a_cache_that_can_not_be_made_is_named_as_it_was_given(tabled: None, tmp_path: Path) -> None:
    """The advice was about OVDECODE_CACHE."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=r"`CACHE_DIR` .* or '' to keep nothing") as caught:
            load(properties={"CACHE_DIR": str(folder)})
        assert "OVDECODE_CACHE" not in str(caught.value)


def test_numpy_numbers_are_numbers(tabled: None) -> None:
    import numpy as np

    assert load(threads=np.int64(2), cache_bytes=np.int64(1 << 20)).name == "smollm2"


# Siblings


@pytest.mark.usefixtures("tabled")
def test_a_sibling_is_loaded_once_as_its_model_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    options = {
        "device": "CPU",
        "precision": "exact",
        "runner": "paged",
        "tokenizer": "openvino",
        "weights": "int8",
        "threads": 1,
        "properties": {"A": 1},
        "cache_bytes": 1 << 20,
        "progress": False,
    }
    real = loading.load

    def fake(source: str, **given: Any) -> od.Model:
        asked.append((source, given))
        return od.Model(od.TableRunner([[0.0]]))

    monkeypatch.setattr(loading, "load", fake)
    model = real("smollm2", **options)  # type: ignore[arg-type]
    assert model.sibling("other") is model.sibling("other")
    assert asked == [("other", options)]


def test_a_model_that_was_not_loaded_has_no_siblings() -> None:
    with pytest.raises(ConfigurationError, match="`model` must be a Model"):
        od.Model(od.TableRunner([[0.0]])).sibling("smollm2")


# Sources


def broken_folder(path: Path, kind: str) -> Path:
    import openvino as ov
    from openvino import opset13 as op

    if kind == "missing":
        return path / "nothing"
    xml = path / "openvino_model.xml"
    if kind == "cut short":
        xml.write_text("<?xml version='1.0'?><net><layers>")
    elif kind == "unreadable":
        xml.write_text('<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0"/></layers></net>')
    elif kind == "no language model":
        pixels = op.parameter([1, 3], ov.Type.f32, name="pixels")
        ov.save_model(ov.Model([op.relu(pixels)], [pixels], "picture"), xml)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is nothing of that name"),
        ("empty", "it is empty"),
        ("cut short", "cut short"),
        ("unreadable", "OpenVINO can't read it"),
        ("no language model", "`input_ids`"),
    ],
)
def test_a_source_that_is_no_model(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load(broken_folder(tmp_path, kind))


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF but no more")
    with pytest.raises(ModelError, match=r"model\.gguf"):
        load(file)


# Memory


def test_a_model_goes_when_nobody_holds_it() -> None:
    """Loading froze the collector, so that models loaded before, which are cycles, stayed for ever."""
    frozen = gc.get_freeze_count()
    model = load()
    model.generate("Once upon", max_new_tokens=2)
    again = load()
    gone = [weakref.ref(each) for each in (model, model.runner, model.vocabulary)]
    del model
    gc.collect()
    assert [each() for each in gone] == [None] * 3
    assert gc.get_freeze_count() == frozen
    assert again.runner.cache_in_use == 0
