"""What does an experiment cost? 8 methods x 50 GSM8K prompts with store, metrics and progress, against the bare engine.

    OVDECODE_DATA=path/to/data python benchmarks/grid.py [--quick] [--prompts path/to/gsm8k_test.jsonl] [--count 50]

Three ways to decode the same grid, in turn, in one process, on one model:

- `run`: `ovdecode.experiment.run` into a new store, with metrics and progress; this is what a user waits for.
- `engine`: the same tasks in the same order through the engine alone; nothing is kept.
- `one by one`: each task alone, method after method, prompt after prompt. Only the first prompts (`--alone`) are done
  in this way, by all methods: what is compared is tokens a second.

Asked: `run` takes at most 1.15 times as long as `engine`, and is at least 4 times as fast as `one by one`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from common import Table, arguments, shuffled_rounds

import ovdecode as od
from ovdecode.engine import Engine
from ovdecode.experiment import Experiment, run
from ovdecode.experiment.progress import Progress

METHODS = [
    "greedy",
    "sampling:top_p=0.95",
    "sampling:temperature=0.8,min_p=0.05",
    "sampling:typical=0.95",
    "sampling:processors=(mirostat)",
    "beam:num_beams=4",
    "contrastive_search",
    "speculative",
]
METRICS = [
    "numeric_answer", "logprob", "perplexity", "distinct_n", "rep_n", "loop_rate", "compression_ratio", "copied",
    "self_bleu", "zipf", "corpus_perplexity",
]  # fmt: skip
"""None of these asks the model: what does is more work, not overhead."""
NEW = 64


def experiment(options: argparse.Namespace, count: int) -> Experiment:
    """The grid over the first `count` prompts."""
    folder = os.environ.get("OVDECODE_DATA")
    file = options.prompts or (Path(folder) / "gsm8k_test.jsonl" if folder else None)
    if file is None or not file.is_file():
        raise SystemExit(
            f"`--prompts` must name the test split of GSM8K, but {file or 'nothing'} is no file; give its path, or set "
            "OVDECODE_DATA to the folder that holds gsm8k_test.jsonl (github.com/openai/grade-school-math has it)"
        )
    prompts = {
        "file": str(file),
        "field": "question",
        "template": "Question: {question}\nAnswer:",
        "references": "answer",
        "lines": f"0:{count}",
    }
    return Experiment(
        METHODS,
        prompts=prompts,
        max_new_tokens=NEW,
        metrics=METRICS,
        precision=options.precision,
        threads=options.threads,
    )


def main() -> None:
    options = arguments(
        __doc__,
        prompts={"type": Path, "help": "the test split of GSM8K (default: in the folder that OVDECODE_DATA names)"},
        count={"type": int, "default": 50, "help": "how many of its prompts (default: 50; 8 with --quick)"},
        alone={"type": int, "default": 4, "help": "how many of these also one by one (default: 4; 1 with --quick)"},
        rounds={"type": int, "default": 2, "help": "how often each way is measured (default: 2; once with --quick)"},
        precision={"default": "invariant", "help": "fast, invariant (default) or exact"},
    )
    count, few = (8, 1) if options.quick else (options.count, options.alone)
    plan = experiment(options, count)
    model = od.load("smollm2", precision=options.precision, threads=options.threads)
    texts = [prompt.text for prompt in plan.prompts.read()]
    tasks = [od.Task(model, text, method, NEW) for text in texts for method in METHODS]
    tokens = {"engine": 0, "one by one": 0}
    looks: list[Progress] = []

    def through_run() -> float:
        folder = Path(tempfile.mkdtemp()) / "grid.store"
        begin = time.perf_counter()
        store = run(plan, folder, models={"smollm2": model}, progress=looks.append)
        seconds = time.perf_counter() - begin
        if len(store) < len(store.cells) or store.failed.any():
            raise SystemExit(f"all {len(store.cells)} cells must be finished and none may fail, see {folder}")
        shutil.rmtree(folder.parent)
        return seconds

    def through_engine() -> float:
        begin = time.perf_counter()
        results = list(Engine().run(tasks))
        seconds = time.perf_counter() - begin
        tokens["engine"] = sum(len(result.tokens) for result in results)
        return seconds

    def one_by_one() -> float:
        chosen = [task for method in range(len(METHODS)) for task in tasks[method : few * len(METHODS) : len(METHODS)]]
        begin = time.perf_counter()
        results = [next(od.run([task])) for task in chosen]
        seconds = time.perf_counter() - begin
        tokens["one by one"] = sum(len(result.tokens) for result in results)
        return seconds

    list(od.run(tasks[: len(METHODS)]))  # every method once: what is made at first use is made
    loops = {"run": through_run, "engine": through_engine, "one by one": one_by_one}
    seconds = shuffled_rounds(loops, rounds=1 if options.quick else options.rounds, warm_ups=0)
    tokens["run"] = tokens["engine"]
    rates = {name: tokens[name] / np.array(taken) for name, taken in seconds.items()}

    table = Table(
        f"{len(METHODS)} methods x {count} prompts of GSM8K, {NEW} new tokens",
        ["way", "texts", "tokens", "s", "tokens/s", "of it, run is", "asked"],
    )
    for name, asked in (("run", "-"), ("engine", ">= 0.87 (1 / 1.15)"), ("one by one", ">= 4")):
        texts_done = (few if name == "one by one" else count) * len(METHODS)
        ratio = float(np.median(rates["run"] / rates[name]))
        table.add(name, texts_done, tokens[name], np.median(seconds[name]), np.median(rates[name]), ratio, asked)
    table.finish(options, model)
    print(f"{len(looks)} looks at the progress; {len(METRICS)} metrics")


if __name__ == "__main__":
    main()
