"""What does the engine cost? The engine against a bare loop on the same compiled model, in one run, interleaved.

    python benchmarks/overhead.py [--quick] [--threads 2] [--json results.json]

The bare loop is what one would write by hand for this one case: `request.infer` with shared inputs and outputs on the
same compiled model, and the same page tables; no strategies, no stops, no bookkeeping. It chooses the next tokens for
all rows at once: by argmax, or by sampling in plain NumPy. The sampling strategy is held against both: over argmax, all
that sampling costs counts as overhead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import openvino as ov
from common import Table, arguments, shuffled_rounds

import ovdecode as od
from ovdecode.runners.paged import PagedRunner

PROMPT, STEPS = 64, 64
METHODS = {
    "greedy": "greedy",
    "sampling": "sampling:temperature=0.8,top_k=50,top_p=0.95",
}
Choose = Callable[[np.ndarray], np.ndarray]


def argmax(logits: np.ndarray) -> np.ndarray:
    """The best token of each row, (rows, vocab) to (rows,)."""
    return logits.argmax(axis=1)


def sample(logits: np.ndarray, rng: np.random.Generator = np.random.default_rng(0)) -> np.ndarray:  # noqa: B008
    """A token of each row after temperature 0.8, top-k 50 and top-p 0.95, as one writes it by hand."""
    best = np.argpartition(logits, -50, axis=1)[:, -50:]  # (rows, 50)
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(logits, best, 1), axis=1), 1)
    scaled = np.take_along_axis(logits, best, 1) / 0.8
    weights = np.exp(scaled - scaled[:, :1])
    weights /= weights.sum(axis=1, keepdims=True)
    weights[weights.cumsum(axis=1) - weights >= 0.95] = 0
    sums = weights.cumsum(axis=1)
    place = (sums < rng.random((len(sums), 1)) * sums[:, -1:]).sum(axis=1)
    return np.take_along_axis(best, place[:, None], 1)[:, 0]


def bare_request(model: od.Model) -> tuple[ov.InferRequest, int]:
    """A request of its own on the runner's compiled model and caches, and the size of a page."""
    assert isinstance(model.runner, PagedRunner)
    graph = model.runner._lanes[False].graph
    request = graph._request.get_compiled_model().create_infer_request()
    for port in request.get_compiled_model().inputs:
        if "cache" in port.any_name:
            request.set_tensor(port, graph._request.get_tensor(port))
    return request, graph.page_size


def bare_loop(request: ov.InferRequest, page_size: int, prompts: list[list[int]], choose: Choose) -> float:
    """Seconds of STEPS steps after one prefill, as OpenVINO's guide writes it."""
    count = len(prompts)
    pages = -(-(PROMPT + STEPS) // page_size)
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

    def infer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return request.infer(inputs, share_inputs=True, share_outputs=True)["logits"]

    logits = infer(feed(np.array(prompts, np.int64), 0))
    begin = time.perf_counter()
    for step in range(STEPS - 1):
        tokens = choose(logits)[:, None]
        logits = infer(feed(tokens, PROMPT + step))
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
    request, rng = bare_request(model), np.random.default_rng(0)
    table = Table(
        "overhead of the engine over a bare loop",
        ["method", "sequences", "against", "bare ms", "engine ms", "overhead %", "asked %"],
    )
    asked = {("greedy", 1): 3, ("sampling", 1): 3, ("greedy", 32): 5, ("sampling", 32): 12}
    for count in (1, 8, 32):
        prompts = rng.integers(100, model.vocabulary.size, (count, PROMPT)).tolist()
        loops = {
            "bare argmax": partial(bare_loop, *request, prompts, argmax),
            "bare sampling": partial(bare_loop, *request, prompts, sample),
        }
        for name, spec in METHODS.items():
            loops[name] = partial(engine_loop, model, prompts, spec)
        seconds = shuffled_rounds(loops, rounds=4 if options.quick else 15)
        for name, bare in (("greedy", "bare argmax"), ("sampling", "bare argmax"), ("sampling", "bare sampling")):
            ratios = np.array(seconds[name]) / np.array(seconds[bare])
            table.add(
                name,
                count,
                bare,
                np.median(seconds[bare]) * 1000 / (STEPS - 1),
                np.median(seconds[name]) * 1000 / (STEPS - 1),
                100 * (np.median(ratios) - 1),
                asked.get((name, count), "-"),
            )
    table.finish(options, model)


if __name__ == "__main__":
    main()
