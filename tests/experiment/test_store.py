"""A store: torn and changed lines, other versions, other experiments, and files that are no store."""

from __future__ import annotations

import gc
import itertools
import json
import random
import tracemalloc
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_tables import STRATEGIES, experiment, go, table_model, table_of

from ovdecode.errors import StoreError
from ovdecode.experiment import Experiment, Record, Store, summary
from ovdecode.experiment.claims import Claims
from ovdecode.experiment.journal import Journal, Journals, encode, is_whole
from ovdecode.experiment.progress import Progress
from ovdecode.experiment.run import Work


def only(folder: Path, kind: str) -> Path:
    (file,) = folder.glob(f"{kind}-*.jsonl")
    return file


def test_a_line_is_json_and_any_change_of_it_is_seen():
    line = encode({"key": "k", "text": 'quo"te\n\x1b é'})
    assert json.loads(line)["text"] == 'quo"te\n\x1b é'
    assert line.count(b"\n") == 1
    assert is_whole(line)
    for place in range(len(line)):
        assert not is_whole(line[:place])
        assert not is_whole(line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :])


@pytest.mark.parametrize("seed", range(20))
def test_a_shard_that_ends_anywhere_is_completed(tmp_path: Path, seed: int):
    whole = table_of(go(tmp_path))
    rng = random.Random(seed)
    for kind in ("results", "metrics"):
        shard = only(tmp_path, kind)
        shard.write_bytes(shard.read_bytes()[: rng.randrange(shard.stat().st_size)])
    assert len(Store.open(tmp_path)) < 24
    assert table_of(go(tmp_path)) == whole


def test_a_changed_byte_costs_one_cell(tmp_path: Path):
    whole = table_of(go(tmp_path))
    shard = only(tmp_path, "results")
    content = bytearray(shard.read_bytes())
    content[content.index(b"\n") + 20] ^= 4  # in the second line, and not what ends one
    shard.write_bytes(content)
    store = Store.open(tmp_path)
    assert len(store) == 23
    assert store.damaged == 1
    again = go(tmp_path)
    assert again.damaged == 1
    assert table_of(again) == whole


def test_rubbish_in_a_shard_is_left_out(tmp_path: Path):
    whole = table_of(go(tmp_path))
    (tmp_path / "results-0.jsonl").write_bytes(b'\x00\xff\n{"crc":"00000000","key":"x"}\n\n[1]\n' + b"x" * 100_000)
    store = Store.open(tmp_path)
    assert table_of(store) == whole
    assert store.damaged == 5


def test_what_is_there_twice_counts_once(tmp_path: Path):
    store = go(tmp_path)
    shard = only(tmp_path, "results")
    (tmp_path / "results-again.jsonl").write_bytes(shard.read_bytes())
    again = Store.open(tmp_path)
    assert len(list(again.records())) == len(again) == 24
    assert table_of(again) == table_of(store)


def test_another_parameter_is_another_experiment_in_the_same_folder(tmp_path: Path):
    whole = table_of(go(tmp_path))
    longer = go(tmp_path, experiment(max_new_tokens=5))
    assert {record.length for record in longer.records()} == {5}
    assert len(longer) == 24
    written = len(only_lines(tmp_path))
    assert written == 48
    assert table_of(go(tmp_path)) == whole
    assert len(only_lines(tmp_path)) == written  # nothing was decoded again


def only_lines(folder: Path) -> list[str]:
    return [line for file in folder.glob("results-*.jsonl") for line in file.read_text().splitlines()]


def test_an_experiment_may_grow_in_every_direction(tmp_path: Path):
    go(tmp_path)
    grown = experiment(strategies=["sampling:top_k=2", *STRATEGIES], prompts=["c", "a", "b"], samples=4)
    store = go(tmp_path, grown)
    assert len(store) == 5 * 3 * 4
    assert len(only_lines(tmp_path)) == 5 * 3 * 4  # the 24 were not decoded again, though their prompts moved
    assert table_of(store) == table_of(go(tmp_path / "fresh", grown))


def test_other_references_are_measured_anew(tmp_path: Path):
    def plan(reference: str) -> Experiment:
        prompts = {"texts": ["a"], "references": [reference]}
        return experiment(strategies=["greedy"], samples=1, prompts=prompts, metrics=["exact_match"])

    assert go(tmp_path, plan("bcab")).values("exact_match").item() == 1.0
    assert go(tmp_path, plan("b")).values("exact_match").item() == 0.0
    assert go(tmp_path, plan("bcab")).values("exact_match").item() == 1.0
    assert len(only_lines(tmp_path)) == 1


def test_a_store_is_read_without_its_methods(tmp_path: Path):
    go(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(file.read_text().replace("beam:num_beams=2", "a_method_of_elsewhere:x=1"))
    store = Store.open(tmp_path)
    assert store.experiment.strategies[-1] == "a_method_of_elsewhere:x=1"
    assert len(store) == 18  # the cells of what is now another method are missing


def test_the_manifest_tells_what_made_the_results(tmp_path: Path):
    go(tmp_path)
    store = go(tmp_path)
    assert Store.open(tmp_path).experiment == experiment()
    first, second = store.manifest["runs"]
    assert {"ovdecode", "openvino", "numpy", "python"} == set(first["versions"])
    assert {"processor", "cores", "system", "host"} == set(second["hardware"])
    assert store.manifest["identity"]["models"] == {"table": "named table"}


def test_costs_are_those_of_the_records(tmp_path: Path):
    store = go(tmp_path)
    costs = store.costs()
    for place, record in enumerate(store.records()):
        for name, values in costs.items():
            assert values.ravel()[place] == getattr(record, name)
    half = Store.create(tmp_path, experiment(samples=6), {"table": table_model()})
    assert np.isnan(half.costs()["seconds"]).sum() == 24


def test_records_of_some_places(tmp_path: Path):
    store = go(tmp_path)
    assert [record.key for record in store.records([5, 2])] == [store.cells[5].key, store.cells[2].key]


def test_a_process_sees_what_others_append(tmp_path: Path):
    watching = Store.create(tmp_path, experiment(), {"table": table_model()})
    assert len(watching) == 0
    go(tmp_path)
    watching.refresh()
    assert len(watching) == 24
    assert (watching.values("length") == 4).all()


def test_half_a_line_is_waited_for(tmp_path: Path):
    line = encode({"key": "k"})
    file = tmp_path / "results-1.jsonl"
    file.write_bytes(line + line[:9])
    journals = Journals(tmp_path, "results")
    assert [offset for _, offset, _ in journals.new()] == [0]
    assert journals.damaged == 1
    file.write_bytes(line + line)
    assert [offset for _, offset, _ in journals.new()] == [len(line)]
    assert journals.damaged == 0


def test_a_journal_goes_on_in_a_new_file_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(tmp_path / "results-1.jsonl")
    journal.append({"key": "a"})
    monkeypatch.setattr("os.write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="No space left on device"):
        journal.append({"key": "b"})
    monkeypatch.undo()
    journal.append({"key": "c"})
    journal.close()
    assert [json.loads(line)["key"] for _, _, line in Journals(tmp_path, "results").new()] == ["c", "a"]


def test_a_claim_holds_against_other_processes_only(tmp_path: Path):
    one = Claims(tmp_path / "claims")
    assert one.take("f" * 32)
    assert one.take("f" * 32)
    one.release("f" * 32)
    one.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be a store, but it holds no manifest.json; check the path"),
        (
            '{"format": 99}',
            "must be a store of format 2, but it is of format 99, which another version",
        ),
        ('{"form', "must be the manifest of a store, but it can't be read"),
        ("[]", "must be the manifest of a store, but it can't be read"),
    ],
)
def test_what_is_no_store_of_this_version(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(StoreError, match=message):
            go(tmp_path)
    with pytest.raises(StoreError, match=message):
        Store.open(tmp_path)
    assert not list(tmp_path.glob("results-*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": None}, "`experiment` is None"),
        ({"prompts": 5}, "`prompts` is 5"),
        ({"identity": []}, r"`identity` is \[\]"),
        ({"runs": None}, "`runs` is None"),
        ({"experiment": {}}, "KeyError"),
        ({"identity": {"x": 1}}, "TypeError"),
        ({"identity": {"models": {}, "strategies": {}}}, "KeyError"),
    ],
)
def test_a_manifest_that_is_damaged_is_told(tmp_path: Path, change: dict[str, Any], message: str):
    """A KeyError or a TypeError came out."""
    go(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(StoreError, match=rf"must be the manifest of a store, but it can't be read: {message}.*copy"):
        Store.open(tmp_path)


def test_a_run_into_a_store_without_runs_is_told(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match="but it can't be read: `experiment` is None"):
        go(tmp_path)


def test_a_folder_that_is_named_as_a_shard_is_left_out(tmp_path: Path):
    (tmp_path / "store" / "results-x.jsonl").mkdir(parents=True)
    journals = Journals(tmp_path / "store", "results")
    assert list(journals.new()) == []
    assert journals.damaged == 0


def test_a_generation_that_cannot_be_kept_is_its_cells_error(tmp_path: Path):
    """It ended the run, and the others of its round were lost."""
    store = Store.create(tmp_path, experiment(), {"table": table_model()})
    generation = replace(table_model().generate("a", "greedy"), info={"why": "text"})  # type: ignore[dict-item]
    record = Record.of(generation, store.cells[0], store.experiment)
    assert record.error is not None
    assert record.error.startswith("ValueError: could not convert string to float")
    store.append(record)
    assert len(store) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"but it holds thesis.tex and no manifest.json; choose another folder"):
        go(tmp_path)
    with pytest.raises(StoreError, match="must be a folder that can be written"):
        go(tmp_path / "thesis.tex")


def test_prompts_that_are_gone_are_written_anew_by_a_run(tmp_path: Path):
    whole = table_of(go(tmp_path))
    only(tmp_path, "prompts").write_text("nothing")
    with pytest.raises(StoreError, match=r"must hold the store's prompts, but: line 1 is damaged; delete it and run"):
        Store.open(tmp_path)
    only(tmp_path, "prompts").unlink()
    assert table_of(go(tmp_path)) == whole


def allocated(folder: Path) -> int:
    """Bytes that an open store and its summary hold."""
    gc.collect()
    tracemalloc.start()
    store = Store.open(folder)
    table = summary(store)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table.rows) == 4
    assert len(store) > 0
    return held


def test_memory_does_not_grow_with_what_is_finished(tmp_path: Path):
    """What an open store holds is an index of the grid: arrays, whatever part of it is finished."""
    (like, *_) = go(tmp_path / "one", experiment(samples=1)).records()
    plan, held = experiment(samples=100, metrics=["length"]), {}
    for finished in (8, 800):
        folder = tmp_path / str(finished)
        store = Store.create(folder, plan, {"table": table_model()})
        for cell in store.cells[:: 800 // finished]:
            store.append(replace(like, key=cell.key, text="x" * 1000))
            store.measurements.append([cell.place], {"length": [4.0]})
        store.close()
        allocated(folder)  # once for what is loaded and cached at first use
        held[finished] = allocated(folder)
    assert abs(held[800] - held[8]) < 800 * 10  # bytes; each of these records is over 1,000


def test_a_run_holds_no_more_records_than_one_round_has(tmp_path: Path):
    (like, *_) = go(tmp_path / "one", experiment(samples=1)).records()
    alive, under_way = [], []

    def in_tens(experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        for some in iter(lambda: list(itertools.islice(work, 10)), []):
            yield [replace(like, key=cell.key) for cell, _ in some]
            alive.append(sum(isinstance(one, Record) for one in gc.get_objects()))

    def look(progress: Progress) -> None:
        under_way.append(len(progress.running))

    before = sum(isinstance(one, Record) for one in gc.get_objects())
    store = go(tmp_path / "many", experiment(samples=50), executor=in_tens, progress=look)
    assert len(store) == 400
    assert len(alive) == 40
    assert max(alive) - before <= 10
    assert max(under_way) <= 10


def test_sets_are_measured_again_only_when_they_change(tmp_path: Path):
    store = go(tmp_path)
    assert store.measurements.unmeasured_sets("self_bleu") == []
    moved = experiment(prompts=["b", "a"], strategies=STRATEGIES[::-1])  # the same sets, their cells in another order
    assert Store.create(tmp_path, moved, {"table": table_model()}).measurements.unmeasured_sets("self_bleu") == []
    fewer = Store.create(tmp_path, experiment(samples=2), {"table": table_model()})
    assert fewer.measurements.unmeasured_sets("self_bleu") == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert np.isnan(fewer.set_values("self_bleu")).all()


def test_a_record_is_the_same_from_json(tmp_path: Path):
    for record in go(tmp_path, experiment(strategies=["best_of_n:n=2", "speculative"])).records():
        assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record
