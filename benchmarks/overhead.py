"""What does the engine cost? The engine against a bare loop on the same compiled model, in one run, interleaved.

    python benchmarks/overhead.py [--quick] [--threads 2] [--json results.json]

The bare loop is what one would write by hand for this one case: `request.infer` with shared inputs and outputs on the
same compiled model, and the same page tables; no strategies, no stops, no bookkeeping. It chooses the next tokens for
all rows at once: by argmax, or by sampling in plain NumPy. The sampling strategy is held against both: over argmax, all
that sampling costs counts as overhead.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from bare import BareLoop, argmax, engine_seconds
from common import Table, arguments, shuffled_rounds

import ovdecode as od

PROMPT, STEPS = 64, 64
METHODS = {
    "greedy": "greedy",
    "sampling": "sampling:temperature=0.8,top_k=50,top_p=0.95",
}


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


def main() -> None:
    options = arguments(__doc__)
    model = od.load("smollm2", threads=options.threads)
    rng = np.random.default_rng(0)
    table = Table(
        "overhead of the engine over a bare loop",
        ["method", "sequences", "against", "bare ms", "engine ms", "overhead %", "asked %"],
    )
    asked = {("greedy", 1): 3, ("sampling", 1): 3, ("greedy", 32): 5, ("sampling", 32): 12}
    for count in (1, 8, 32):
        prompts = rng.integers(100, model.vocabulary.size, (count, PROMPT)).tolist()
        bare = BareLoop(model, prompts, STEPS)
        loops = {"bare argmax": partial(bare.seconds, argmax), "bare sampling": partial(bare.seconds, sample)}
        for name, spec in METHODS.items():
            loops[name] = partial(engine_seconds, model, prompts, spec, STEPS, count * PROMPT)
        seconds = shuffled_rounds(loops, rounds=4 if options.quick else 15)
        for name, yardstick in (("greedy", "bare argmax"), ("sampling", "bare argmax"), ("sampling", "bare sampling")):
            ratios = np.array(seconds[name]) / np.array(seconds[yardstick])
            table.add(
                name,
                count,
                yardstick,
                np.median(seconds[yardstick]) * 1000 / (STEPS - 1),
                np.median(seconds[name]) * 1000 / (STEPS - 1),
                100 * (np.median(ratios) - 1),
                asked.get((name, count), "-"),
            )
    table.finish(options, model)


if __name__ == "__main__":
    main()
