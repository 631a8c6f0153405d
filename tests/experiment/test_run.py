"""Running an experiment: interrupted, killed, by two at once, and what is then in the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_tables import STRATEGIES, experiment, go, table_model, table_of, timeless

import ovdecode as od
from ovdecode.errors import ConfigurationError, StoreError
from ovdecode.experiment import Experiment, InProcess, Record, Store, run
from ovdecode.experiment.executors import Work
from ovdecode.experiment.loaded import Models
from ovdecode.experiment.progress import Progress, read_progress
from ovdecode.metric import Result, SetMetric, TextMetric
from ovdecode.models import ModelFolder


def in_a_process(*arguments: Any) -> Any:
    script = Path(__file__).with_name("experiment_tables.py")
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_fills_the_grid_in_its_order(tmp_path: Path):
    store = go(tmp_path / "store")
    records = list(store.records())
    assert [(one.prompt, one.strategy, one.sample) for one in records] == [
        (prompt, strategy, sample) for prompt in (0, 1) for strategy in STRATEGIES for sample in range(3)
    ]
    assert len(store) == 24
    assert store.finished.all()
    assert not store.failed.any()
    assert store.damaged == 0
    assert records[0].text == "bcab"  # of a, b follows; of b, c; of c, a
    assert records[12].text == "cabc"
    assert store.values("length").tolist() == np.full((1, 2, 4, 3), 4.0).tolist()
    assert store.keys() == {cell.key for cell in store.cells}


def test_results_equal_those_of_the_model_alone(tmp_path: Path):
    model = table_model()
    for record in go(tmp_path, experiment(strategies=[*STRATEGIES, "best_of_n:n=3"])).records():
        alone = model.generate("ab"[record.prompt], record.strategy, max_new_tokens=4, seed=0, sample=record.sample)
        assert (record.text, record.tokens, record.logprobs) == (alone.text, alone.tokens, alone.token_logprobs)
        assert record.score == alone.score
        several = [one.tokens for one in alone.alternatives] if len(alone.alternatives) > 1 else []
        assert [tuple(one["tokens"]) for one in record.alternatives] == several


def test_the_cache_that_each_text_needed_is_kept_and_measured(tmp_path: Path):
    model = table_model()
    model.runner.token_bytes = 10
    plan = experiment(strategies=["greedy", "sampling"], metrics=["cache_bytes"])
    store = run(plan, tmp_path, models={"table": model})
    assert {record.cache_bytes for record in store.records()} == {40}  # of the prompt's token and the first three
    assert store.values("cache_bytes").tolist() == store.costs()["cache_bytes"].tolist() == [[[[40.0] * 3] * 2] * 2]


def test_a_second_run_does_nothing(tmp_path: Path):
    before = table_of(go(tmp_path))
    files = {file: file.read_bytes() for file in tmp_path.glob("*-*.jsonl")}
    assert table_of(go(tmp_path)) == before
    assert {file: file.read_bytes() for file in tmp_path.glob("*-*.jsonl")} == files


def test_twenty_kills_lose_nothing_and_count_nothing_twice(tmp_path: Path):
    finished = in_a_process("killed_runs", tmp_path / "killed", 20)
    assert finished == sorted(finished)  # what is finished stays
    assert any(0 < count < 24 for count in finished)
    store = go(tmp_path / "killed")
    assert table_of(store) == table_of(go(tmp_path / "undisturbed"))
    assert len(list(store.records())) == len(store.keys()) == 24


def test_kills_while_it_measures_lose_nothing_either(tmp_path: Path):
    assert in_a_process("killed_while_measuring", tmp_path / "killed", 4) == [1, 2, 3, 4]
    assert table_of(go(tmp_path / "killed")) == table_of(go(tmp_path / "undisturbed"))


def test_two_processes_share_the_work(tmp_path: Path):
    assert in_a_process("two_at_once", tmp_path) == [0, 0]
    shards = [file.read_text().splitlines() for file in tmp_path.glob("results-*.jsonl")]
    keys = [json.loads(line)["key"] for lines in shards for line in lines]
    assert len(keys) == len(set(keys)) == 400  # nothing was decoded twice
    assert len(shards) == 2
    plan = experiment(strategies=["unhurried"], samples=200)
    assert table_of(Store.open(tmp_path)) == table_of(go(tmp_path / "alone", plan))


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path):
    def press(progress: Progress) -> None:
        if progress.state == "decoding" and threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), signal.SIGINT)

    plan, before = experiment(samples=100), signal.getsignal(signal.SIGINT)  # more than run at once
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "ended", plan, progress=press)
    assert len(Store.open(tmp_path / "ended")) < 800
    assert signal.getsignal(signal.SIGINT) is before
    assert table_of(go(tmp_path / "ended", plan)) == table_of(go(tmp_path / "whole", plan))


def test_an_error_of_one_cell_is_that_cells_alone(tmp_path: Path):
    @od.register("flaky")
    @dataclass(frozen=True)
    class Flaky(od.Strategy):
        """Fails for its second sample, as long as `broken`."""

        def decode(self, prompt, stop, rng):
            yield prompt
            if rng.split(0).uniform() != at_first and broken:
                raise ValueError("no luck")
            return prompt + 1

    broken, at_first = True, od.Random(0, [0], 0).split(0).uniform()
    plan = experiment(strategies=["flaky", "greedy"], prompts=["a"], samples=2)
    store = go(tmp_path, plan)
    assert store.failed.tolist() == [False, True, False, False]
    failed = list(store.records())[1]
    assert failed.error == "ValueError: no luck"
    assert np.isnan(store.values("length")[0, 0, 0, 1])
    broken = False
    assert go(tmp_path, plan).failed.any()  # it is finished
    again = go(tmp_path, plan, retry=True)
    assert not again.failed.any()
    assert again.values("length")[0, 0, 0].tolist() == [1.0, 1.0]
    assert len(list(Store.open(tmp_path).records())) == 4
    assert not Store.open(tmp_path).failed.any()


def test_a_metric_that_fails_on_one_text_fails_for_that_cell_alone(tmp_path: Path):
    @od.register("picky")
    @dataclass(frozen=True)
    class Picky(TextMetric):
        """Refuses texts that begin with c, unless it is `patient`."""

        def __call__(self, result: Result) -> float:
            if result.text.startswith("c") and not patient:
                raise ValueError("not this one")
            return 1.0

    patient = False
    plan = experiment(strategies=["greedy"], samples=1, metrics=["picky", "length"])
    store = go(tmp_path, plan)
    assert store.values("picky").ravel().tolist()[0] == 1.0
    assert np.isnan(store.values("picky").ravel()[1])
    assert store.measurements.errors("picky") == {1: "ValueError: not this one"}
    assert store.values("length").ravel().tolist() == [4.0, 4.0]
    patient = True
    assert go(tmp_path, plan).values("picky").ravel().tolist() == [1.0, 1.0]
    assert Store.open(tmp_path).measurements.errors("picky") == {}


@pytest.mark.parametrize("given", [None, "much", []])
def test_a_metric_that_gives_no_number_ends_nothing(tmp_path: Path, given: Any):
    @od.register("wordy")
    @dataclass(frozen=True)
    class Wordy(TextMetric):
        """Gives no number, and of two texts one value."""

        def __call__(self, result: Result) -> float:
            return given  # type: ignore[no-any-return]

        def measure(self, results: Any) -> Any:
            return super().measure(results) if given != [] else [1.0]

    store = go(tmp_path, experiment(strategies=["greedy"], samples=1, metrics=["wordy", "length"]))
    assert np.isnan(store.values("wordy")).all()
    assert set(store.measurements.errors("wordy")) == {0, 1}
    assert (store.values("length") == 4).all()


def test_a_set_metric_that_fails_is_that_sets_error(tmp_path: Path):
    @od.register("picky_set")
    @dataclass(frozen=True)
    class PickySet(SetMetric):
        """Refuses the texts of greedy decoding."""

        def __call__(self, results: Any) -> float:
            if results[0].strategy == "greedy":
                raise ValueError("not these")
            return float(len(results))

    store = go(tmp_path, experiment(metrics=["picky_set"]))
    assert store.measurements.set_errors("picky_set") == {(0, 0): "ValueError: not these"}
    assert np.isnan(store.set_values("picky_set")[0, 0])
    assert store.set_values("picky_set")[0, 1:].tolist() == [6.0, 6.0, 6.0]


def test_metrics_that_are_added_later_are_measured_and_nothing_is_decoded(tmp_path: Path):
    go(tmp_path, experiment(metrics=[]))

    def refuse(experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        raise AssertionError("nothing is missing")
        yield

    store = go(tmp_path, experiment(metrics=["length"]), executor=refuse)
    assert (store.values("length") == 4).all()


def test_an_executor_gets_plain_data_and_what_it_loses_is_done_again(tmp_path: Path):
    lost: list[str] = []

    def forgetful(experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        inner = InProcess(Models(experiment, {"table": table_model()}))
        for records in inner(Experiment.of(json.loads(json.dumps(experiment.plain()))), work):
            kept = [record for record in records if record.key in lost or record.sample != 1]
            lost.extend(record.key for record in records if record not in kept)
            yield kept

    assert table_of(go(tmp_path / "lossy", executor=forgetful)) == table_of(go(tmp_path / "whole"))
    assert len(lost) == 8


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, written = os.write, 0

    def write(file: int, data: Any) -> int:
        nonlocal written
        if written > 5000:
            real(file, data[:50])
            raise OSError(28, "No space left on device")
        written += len(data)
        return real(file, data)

    monkeypatch.setattr("ovdecode.experiment.journal.os.write", write)
    with pytest.raises(StoreError, match=r"room to write, but: .*No space left.*kept; make room and run again"):
        go(tmp_path / "full")
    monkeypatch.undo()
    kept = Store.open(tmp_path / "full")
    assert 0 < len(kept) < 24
    assert kept.damaged == 1
    assert table_of(go(tmp_path / "full")) == table_of(go(tmp_path / "whole"))


def test_progress_can_be_watched_from_outside(tmp_path: Path):
    seen: list[Progress | None] = []

    def look(progress: Progress) -> None:
        seen.append(read_progress(Store.open(tmp_path)))

    store = go(tmp_path, progress=look)
    start, first, last = seen[0], seen[1], seen[-1]
    assert start is not None
    assert (start.state, start.finished) == ("starting", 0)
    assert first is not None
    assert first.state == "decoding"
    assert first.total == 24
    assert {strategy for strategy, _, _ in first.running} <= set(STRATEGIES)
    assert last is not None
    assert [(row.strategy, row.finished, row.total) for row in last.rows] == [(spec, 6, 6) for spec in STRATEGIES]
    assert read_progress(store) is None  # nobody is at work any more


def test_a_model_in_another_precision_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="`precision` of the experiment must be that of the model `table`"):
        go(tmp_path, experiment(precision="fast"))


def test_a_model_that_cannot_be_loaded_is_an_error_before_anything(tmp_path: Path):
    with pytest.raises(od.errors.ModelError, match="Did you mean `smollm2`"):  # type: ignore[attr-defined]
        run(experiment(models=["smolm2"]), tmp_path / "store")


@pytest.mark.parametrize("chat", [False, True])
def test_the_default_model(model: od.Model, smollm2_folder: ModelFolder, tmp_path: Path, chat: bool):
    plan = Experiment.of(
        {
            "strategies": ["greedy", "sampling:top_p=0.9", "beam:num_beams=2"],
            "prompts": {"texts": ["Once upon a time", "The sea is"], "references": ["there", ["blue"]], "chat": chat},
            "samples": 2,
            "max_new_tokens": 6,
            "metrics": ["logprob", "perplexity", "rouge"],
        }
    )
    store = run(plan, tmp_path, models={"smollm2": model})
    assert len(store) == 12
    assert not store.failed.any()
    for record in store.records():
        prompt: Any = store.prompts[record.prompt].content
        alone = model.generate(prompt, record.strategy, max_new_tokens=6, sample=record.sample)
        assert record.tokens == alone.tokens
        assert record.logprobs == alone.token_logprobs  # the same bits as alone
    assert np.isfinite(store.values("perplexity")).all()
    # Loaded from its source or given: the same model, so the same cells.
    lazily = run(plan, tmp_path)
    assert [timeless(one) for one in lazily.records()] == [timeless(one) for one in store.records()]
    assert len(list(tmp_path.glob("results-*.jsonl"))) == 1


def test_equal_prompts_share_one_result(tmp_path: Path):
    """Only the last of them was found finished, so that a run decoded the others for ever."""
    store = go(tmp_path, experiment(prompts=["a", "b", "a"], strategies=["sampling"]))
    records = list(store.records())
    assert [one.prompt for one in records] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [one.tokens for one in records[:3]] == [one.tokens for one in records[6:]]
    assert len(store.keys()) == 6
    assert len(list(tmp_path.glob("results-*"))) == 1
    assert sum(len(file.read_text().splitlines()) for file in tmp_path.glob("results-*")) == 6
    again = Store.open(tmp_path)
    assert again.finished.all()
    assert np.array_equal(again.values("length"), np.full(store.shape, 4.0))
