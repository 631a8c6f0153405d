"""What does the engine cost? The engine against a bare loop on the same compiled model, in one run, interleaved.

    python benchmarks/overhead.py [--quick] [--threads 2] [--json results.json]

The bare loop is what one would write by hand for this one case: the same graph and the same page tables, the next
tokens chosen for all rows at once with NumPy, no strategies, no stops, no bookkeeping. For sampling, the bare loop
still takes the argmax: everything that sampling costs counts as overhead.
"""

from __future__ import annotations

import time

import numpy as np
from common import Table, arguments, shuffled_rounds

import ovdecode as od
from ovdecode.runners.paged import PagedRunner

PROMPT, STEPS = 64, 64
METHODS = {
    "greedy": "greedy",
    "sampling": "sampling:temperature=0.8,top_k=50,top_p=0.95",
}


def bare_loop(model: od.Model, prompts: list[list[int]]) -> float:
    """Seconds of STEPS greedy steps after one prefill, by hand."""
    runner = model.runner
    assert isinstance(runner, PagedRunner)
    lane = runner._lanes[False]
    count = len(prompts)
    pages = -(-(PROMPT + STEPS) // lane.graph.page_size)
    tables = np.arange(count * pages, dtype=np.int32)  # the caches are empty: any page will do

    def feed(tokens: np.ndarray, past: int) -> dict[str, np.ndarray]:
        new = tokens.shape[1]
        return {
            "input_ids": tokens.ravel(),
            "position_ids": np.tile(np.arange(past, past + new), count),
            "past_lens": np.full(count, past, np.int32),
            "subsequence_begins": (np.arange(count + 1) * new).astype(np.int32),
            "block_indices": tables,
            "block_indices_begins": (np.arange(count + 1) * pages).astype(np.int32),
            "max_context_len": np.array(past + new, np.int32),
            "wanted_rows": np.arange(count) * new + new - 1,
        }

    outputs = lane.graph.start(feed(np.array(prompts, np.int64), 0))()
    begin = time.perf_counter()
    for step in range(STEPS - 1):
        tokens = outputs["logits"].argmax(axis=1)[:, None]
        outputs = lane.graph.start(feed(tokens, PROMPT + step))()
    return time.perf_counter() - begin


def engine_loop(model: od.Model, prompts: list[list[int]], strategy: str) -> float:
    """Seconds of the same steps through the engine: from the first token of all to the last."""
    tasks = [
        od.Task(model, prompt, strategy, max_new_tokens=STEPS, ignore_eos=True, seed=number)
        for number, prompt in enumerate(prompts)
    ]
    results = list(od.run(tasks, max_tokens=len(prompts) * PROMPT))
    return max(result.cost.seconds for result in results) - max(result.cost.time_to_first_token for result in results)


def main() -> None:
    options = arguments(__doc__)
    model = od.load("smollm2", threads=options.threads)
    rng = np.random.default_rng(0)
    table = Table(
        "overhead of the engine over a bare loop",
        ["method", "sequences", "bare ms", "engine ms", "overhead %"],
    )
    for count in (1, 8, 32):
        prompts = rng.integers(100, model.vocabulary.size, (count, PROMPT)).tolist()
        loops = {"bare": lambda prompts=prompts: bare_loop(model, prompts)}
        for name, spec in METHODS.items():
            loops[name] = lambda prompts=prompts, spec=spec: engine_loop(model, prompts, spec)
        seconds = shuffled_rounds(loops, rounds=4 if options.quick else 12)
        for name in METHODS:
            ratios = np.array(seconds[name]) / np.array(seconds["bare"])
            per_step = 1000 / (STEPS - 1)
            table.add(
                name,
                count,
                np.median(seconds["bare"]) * per_step,
                np.median(seconds[name]) * per_step,
                100 * (np.median(ratios) - 1),
            )
    table.finish(options, model)


if __name__ == "__main__":
    main()
