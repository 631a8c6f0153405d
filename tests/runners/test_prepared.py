"""What a device makes of a paged graph is kept, checked when it is used again, and made anew when it can't be."""

from __future__ import annotations

import io
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import write_tiny

import ovdecode as od
from ovdecode.models import convert_gguf
from ovdecode.runners import paged_graph, precision, prepared
from ovdecode.runners.lane import Lane
from ovdecode.runners.page_memory import PageMemory
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.prepared import PreparedGraph


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    return convert_gguf(write_tiny(path / "tiny.gguf"), path / "model")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done: graphs built, products tried, and answers of self-tests."""
    done: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(paged_graph, "to_paged", counted("build", paged_graph.to_paged))
    monkeypatch.setattr(paged_graph, "even_rows", counted("try", paged_graph.even_rows))
    monkeypatch.setattr(precision, "_answers", counted("test", precision._answers))
    return done


def load(tiny: Path, cache: Path | str, **options: Any) -> od.Model:
    return od.load(tiny, runner="paged", threads=2, properties={"CACHE_DIR": str(cache)}, **options)


def paged(model: od.Model) -> Lane:
    assert isinstance(model.runner, PagedRunner)
    return model.runner._lanes[False]


def logits(model: od.Model) -> bytes:
    prompt = model.vocabulary.prompt([*range(40)])
    whole, one = model.runner.forward([od.Forward(prompt)]), model.runner.forward([od.Forward(prompt + 7)])
    return whole[0].logits.tobytes() + one[0].logits.tobytes()


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("paged-*"))


@pytest.mark.parametrize("name", ["fast", "invariant", "exact"])
def test_the_second_start_builds_and_tests_nothing_and_has_the_same_bits(
    tiny: Path, tmp_path: Path, work: list[str], name: Any
) -> None:
    once = ["build"] + ["try"] * (name != "fast") + ["test"] * 6
    uncached = load(tiny, "", precision=name)
    assert work == once
    work.clear()
    first = load(tiny, tmp_path, precision=name)
    assert work == once
    work.clear()
    second = load(tiny, tmp_path, precision=name)
    assert work == []
    assert paged(uncached).graph.even_rows == paged(first).graph.even_rows == paged(second).graph.even_rows
    assert logits(uncached) == logits(first) == logits(second)


def test_hidden_states_have_a_graph_of_their_own(tiny: Path, tmp_path: Path, work: list[str]) -> None:
    found = []
    for _ in range(2):
        work.clear()
        model = load(tiny, tmp_path)
        request = od.Forward(model.vocabulary.prompt([1, 2, 3]), hidden=True, layers=(1,))
        (answer,) = model.runner.forward([request])
        assert answer.hidden is not None
        assert answer.layers is not None
        found.append(answer.logits.tobytes() + answer.hidden.tobytes() + answer.layers[1].tobytes())
    assert work == []
    assert found[0] == found[1]
    assert len(kept(tmp_path)) == 2


def test_whoever_is_otherwise_compiled_is_kept_apart(tiny: Path, tmp_path: Path, work: list[str]) -> None:
    for options in ({"precision": "fast"}, {"precision": "exact"}):
        load(tiny, tmp_path, **options)
    (tiny / "openvino_model.bin").touch()  # another time of change: perhaps other weights
    load(tiny, tmp_path)
    assert work.count("build") == len(kept(tmp_path)) == 3


def broken_graph(folder: Path) -> None:
    (folder / "graph.xml").write_bytes((folder / "graph.xml").read_bytes()[:500])


def other_heads(folder: Path) -> None:
    (folder / "heads.json").write_text("{}")


def other_weights(folder: Path) -> None:
    """As after the disk has failed, or as the same graph on a machine that only looks the same."""
    content = bytearray((folder / "graph.bin").read_bytes())
    begin = len(content) // 4  # small constants, such as shapes, come first
    content[begin::97] = bytes(len(content[begin::97]))
    (folder / "graph.bin").unlink()  # a model that lives has the old file mapped
    (folder / "graph.bin").write_bytes(content)


def heads_in_a_list(folder: Path) -> None:
    (folder / "heads.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_graph, "can't be used, so the graph is compiled again"),
        (other_heads, "can't be used, so the graph is compiled again"),
        (heads_in_a_list, "can't be used, so the graph is compiled again"),
        (other_weights, "has other logits now, so the graph is compiled again"),
    ],
)
def test_what_is_damaged_is_made_anew(
    tiny: Path, tmp_path: Path, work: list[str], damage: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = load(tiny, tmp_path)
    (folder,) = kept(tmp_path)
    damage(folder)
    work.clear()
    with caplog.at_level(logging.WARNING, "ovdecode"):
        second = load(tiny, tmp_path)
    (line,) = caplog.records
    assert message in line.getMessage()
    assert work == ["build"] + ["test"] * 6
    assert logits(first) == logits(second)
    work.clear()
    load(tiny, tmp_path)
    assert work == []


def test_a_graph_that_has_other_logits_once_kept_is_not_used(
    tiny: Path, tmp_path: Path, work: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heads = prepared._heads
    monkeypatch.setattr(prepared, "_heads", lambda graph: {name: {} for name in heads(graph)})  # too little is known
    with caplog.at_level(logging.WARNING, "ovdecode"):
        model = load(tiny, tmp_path)
        assert logits(model) == logits(load(tiny, tmp_path))
    (line,) = caplog.records
    assert "the optimised graph can't be kept" in line.getMessage()
    assert work == (["build"] + ["test"] * 6) * 2
    assert not list(kept(tmp_path)[0].glob("graph.*"))


def full(*arguments: Any, **options: Any) -> Any:
    raise OSError(28, "No space left on device")


def lost(
    graph: PreparedGraph, model: Any, scratch: Path, compile_and_export: Any = PreparedGraph._compile_and_export
) -> Any:
    """As OpenVINO does when it can't write its cache: without a word."""
    found = compile_and_export(graph, model, scratch)
    for file in (scratch / "blob").glob("*"):
        file.unlink()
    return found


@pytest.mark.parametrize(
    ("name", "fails", "cause"),
    [
        ("PreparedGraph._keep", full, "No space left"),
        ("PreparedGraph._prepare", full, "No space left"),
        ("publish_folder", full, "No space left"),
        ("scratch_beside", full, "No space left"),
        ("PreparedGraph._compile_and_export", lost, "perhaps the disk is full"),
    ],
)
def test_a_disk_that_is_full_for_a_moment(
    tiny: Path, tmp_path: Path, work: list[str], name: str, fails: Any, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The graph was noted as one that can't be kept, for good; or there was no model at all."""
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "ovdecode"):
        patch.setattr(f"ovdecode.runners.prepared.{name}", fails)
        first = load(tiny, tmp_path)
    (line,) = caplog.records
    assert re.search(f"can't be kept in .* this time.*{cause}", line.getMessage())
    assert not kept(tmp_path)
    second = load(tiny, tmp_path)
    work.clear()
    assert logits(first) == logits(second) == logits(load(tiny, tmp_path))
    assert work == []


def test_notes_that_can_not_be_written_are_done_without(
    tiny: Path, tmp_path: Path, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk kept a model from being loaded, for notes that it can do without."""
    write = Path.write_text

    def write_text(path: Path, *arguments: Any, **options: Any) -> Any:
        return (full if path.name == "even-rows" else write)(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_text)
        patch.setattr(Path, "touch", full)
        load(tiny, tmp_path, precision="invariant")
    work.clear()
    load(tiny, tmp_path, precision="invariant")
    assert work == ["try"] + ["test"] * 6


@pytest.mark.parametrize("content", ["", "9 3", "-5 -1", "1 1", "2 9999", "\0", None])
def test_a_damaged_note_of_even_rows_is_found_out_again(
    tiny: Path, tmp_path: Path, work: list[str], content: str | None
) -> None:
    rows = paged(load(tiny, tmp_path, precision="invariant")).graph.even_rows
    note = kept(tmp_path)[0] / "even-rows"
    note.unlink()
    if content is None:
        note.mkdir()
    else:
        note.write_text(content)
    work.clear()
    assert paged(load(tiny, tmp_path, precision="invariant")).graph.even_rows == rows
    assert work == ["try"]


@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_the_cache_is_no_input_of_the_graph_that_is_kept(tiny: Path, tmp_path: Path, precision: Any) -> None:
    for _ in range(2):
        graph = paged(load(tiny, tmp_path, precision=precision)).graph
        assert len(graph._request.get_compiled_model().inputs) == 8


def test_a_device_that_has_a_cache_of_its_own_is_found_out(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would write there, and what is copied from page to page would not be what it has written."""
    part_of, others = PageMemory.part_of, []

    def other_part_of(memory: PageMemory, graph: Any) -> Any:
        others.append(PageMemory(graph, memory.pages * memory.page_bytes))
        return part_of(others[-1], graph)

    monkeypatch.setattr(PageMemory, "part_of", other_part_of)
    with caplog.at_level(logging.WARNING, "ovdecode"):
        model = load(tiny, tmp_path)
    (line,) = caplog.records
    assert "the optimised graph can't be kept" in line.getMessage()
    assert logits(model) == logits(load(tiny, ""))


def test_a_self_test_that_fails_is_not_remembered(
    tiny: Path, tmp_path: Path, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(precision, "_compare", lambda *arguments: (_ for _ in ()).throw(od.errors.PrecisionError("no")))
        with pytest.raises(od.errors.PrecisionError):
            load(tiny, tmp_path)
    work.clear()
    load(tiny, tmp_path)
    assert work == ["test"] * 6


@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_the_least_cache_that_works(tiny: Path, tmp_path: Path, precision: Any) -> None:
    """A cache of 4 to 9 pages failed inside the self-test; one of fewer was refused by another error."""
    page = paged(load(tiny, tmp_path, precision=precision)).graph.memory.page_bytes
    shutil.rmtree(tmp_path)  # or the self-test, which needs the room, is not done again
    model = load(tiny, tmp_path, precision=precision, cache_bytes=10 * page)
    assert paged(model).cache.pages == 9
    message = f"`cache_bytes` must be at least {10 * page}, 10 pages of {page} bytes, got {10 * page - 1}"
    with pytest.raises(od.errors.ConfigurationError, match=message):
        od.load(tiny, precision=precision, cache_bytes=10 * page - 1, properties={"CACHE_DIR": str(tmp_path)})


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what becomes of a mapping")
def test_the_memory_of_the_cache_comes_in_small_pages(tiny: Path, tmp_path: Path) -> None:
    """The first token of a prompt took two megabytes for the keys and for the values of each layer, 120 in all."""
    for memory in paged(load(tiny, tmp_path)).graph.memory.arrays:
        begin, end = memory.ctypes.data, memory.ctypes.data + memory.nbytes
        flags = ""
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                low, high = (int(address, 16) for address in line.split()[0].split("-"))
                inside = low <= begin and end <= high
            elif inside and line.startswith("VmFlags"):
                flags = line
        assert "nh" in flags.split()


def test_a_constant_that_is_there_twice_is_kept_once() -> None:
    """Tied embeddings took their memory twice."""
    entry = '<data element_type="u8" shape="{size}" offset="{offset}" size="{size}" />'
    graph = "".join(entry.format(offset=offset, size=size) for offset, size in ((0, 3), (3, 2), (5, 3))).encode()
    weights = io.BytesIO()
    moved = prepared._repack(io.BytesIO(b"header" + b"abc" + b"de" + b"abc" + graph), graph, weights)
    assert weights.getvalue() == b"abc" + bytes(61) + b"de"
    assert moved.decode() == "".join(entry.format(offset=at, size=size) for at, size in ((0, 3), (64, 2), (0, 3)))
