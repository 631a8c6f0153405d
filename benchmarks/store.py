"""What does a store cost when it is full? Opening, resuming and summarising 100,000 results, and the memory it takes.

    python benchmarks/store.py [--quick] [--cells 100000] [--json results.json]

The results are made up (64 tokens each, by a seeded generator) and appended as a run would; eight metrics of single
texts and two of whole sets are measured. No model is loaded: what is timed is the store alone. Each step runs in a new
process, as it does for a user, and the seconds count from the first line of its work (imports are left out).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import numpy as np
from common import Table, arguments

from ovdecode.experiment import Cell, Experiment, Record, Store, run, summary
from ovdecode.experiment.manifest import read_store, versions_of, write_manifest
from ovdecode.experiment.measure import CHUNK
from ovdecode.experiment.run import Work

STRATEGIES = ["greedy", "beam:num_beams=4", *(f"sampling:temperature={t / 10}" for t in range(5, 11))]
SAMPLES, LENGTH = 5, 64
METRICS = ["perplexity", "distinct_n", "rep_n", "length", "compression_ratio", "loop_rate", "entropy", "copied"]
SETS = ["self_bleu", "zipf"]
ASKED = 5.0


def plan(cells: int) -> Experiment:
    """A grid of so many cells."""
    prompts = [f"Prompt number {index}." for index in range(cells // (len(STRATEGIES) * SAMPLES))]
    return Experiment(STRATEGIES, prompts, ["made up"], SAMPLES, metrics=[*METRICS, *SETS], precision="fast")


def made(experiment: Experiment, folder: Path) -> Store:
    """Its store, without results; the model is none."""

    class Named:
        """What a store asks of a model: whose results these are."""

        name, tokenizer = "made up", None

    models = {"made up": Named()}
    prompts = experiment.prompts.read()
    versions = versions_of(experiment, models)  # type: ignore[arg-type]
    write_manifest(folder, experiment, prompts, versions)
    return Store(folder, experiment, prompts, versions)


def fill(folder: Path, cells: int, share: float = 1.0) -> None:
    """Append results to a share of the cells of a new store, with what metrics say of them."""
    store = made(plan(cells), folder)
    rng = np.random.default_rng(0)
    words = [f" word{index}" for index in range(2000)]
    places = list(range(int(len(store.cells) * share)))
    for start in range(0, len(places), CHUNK):
        chunk = places[start : start + CHUNK]
        for place in chunk:
            store.append(record(store.cells[place], words, rng))
        store.measurements.append(chunk, {spec: rng.normal(size=len(chunk)).tolist() for spec in METRICS})
    for strategy in range(len(STRATEGIES)):
        for spec in SETS:
            store.measurements.append_set(0, strategy, spec, float(rng.normal()))
    store.close()


def record(cell: Cell, words: list[str], rng: np.random.Generator) -> Record:
    """A made-up result."""
    tokens = rng.integers(0, len(words), LENGTH).tolist()
    logprobs = np.round(-rng.exponential(1.5, LENGTH), 6).tolist()
    return Record(
        cell.key, None, cell.model, cell.strategy, cell.prompt, cell.sample, 0, "fast", "paged", "max_new_tokens", "",
        LENGTH, sum(logprobs), None, forwards=LENGTH, model_tokens=LENGTH + 5, seconds=1.5, time_to_first_token=0.1,
        cache_bytes=0, taken_back=0, info={}, text="".join(words[token] for token in tokens), tokens=tuple(tokens),
        logprobs=tuple(logprobs),
    )  # fmt: skip


def opened(folder: Path) -> None:
    """`Store.open`."""
    Store.open(folder)


def resumed(folder: Path) -> None:
    """All that a second run of a finished experiment does but loading its model."""
    experiment, _, _ = read_store(folder)

    def refuse(experiment: Experiment, work: Iterable[Work]) -> Generator[list[Record], None, None]:
        raise AssertionError("nothing is missing")
        yield

    class Loaded:
        name, tokenizer = "made up", None
        runner = type("Runner", (), {"precision": "fast"})

    run(experiment, folder, models={"made up": Loaded()}, executor=refuse)  # type: ignore[dict-item]


def summarised(folder: Path) -> None:
    """`ovdecode report`, but for printing: intervals, tests and effect sizes against the first method."""
    store = Store.open(folder)
    summary(store, baseline=store.experiment.strategies[0])


STEPS: dict[str, Callable[[Path], None]] = {"open": opened, "resume": resumed, "summarise": summarised}


def seconds_of(step: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak of what Python allocated, in MB, of a step in a new process; each measured on its own."""
    said = subprocess.run(
        [sys.executable, __file__, "--step", step, str(folder)], capture_output=True, text=True, check=True
    )
    seconds, peak = map(float, said.stdout.split())
    return seconds, peak


def one_step(step: str, folder: Path) -> None:
    begin = time.perf_counter()
    STEPS[step](folder)
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    STEPS[step](folder)
    print(seconds, tracemalloc.get_traced_memory()[1] / 1e6)


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        one_step(sys.argv[2], Path(sys.argv[3]))
        return
    options = arguments(__doc__, cells={"type": int, "default": 100_000, "help": "how many results (default: 100,000)"})
    cells = options.cells // 10 if options.quick else options.cells
    table = Table(f"a store of {cells:,} cells", ["step", "finished", "seconds", "asked s", "peak MB allocated"])
    with tempfile.TemporaryDirectory() as folder:
        for share in (0.1, 1.0):
            store = Path(folder) / f"{share}"
            fill(store, cells, share)
            for step in STEPS:
                if share == 1.0 or step != "resume":
                    table.add(step, int(cells * share), *_with_asked(*seconds_of(step, store)))
    table.finish(options)


def _with_asked(seconds: float, peak: float) -> tuple[float, float, float]:
    return seconds, ASKED, peak


if __name__ == "__main__":
    main()
