"""What does a token cost as work grows? 1 to 256 live sequences, and a context of 128 to 8,192 tokens.

    python benchmarks/scaling.py [--quick] [--threads 2] [--json results.json]

Greedy decoding through the engine, in `fast` and in `invariant`, beside a bare infer-request loop on the `fast` graph,
in the same rounds. The context is that of the last step. It ends at 8,192 tokens because SmolLM2's does
(`max_position_embeddings`); another model ends where its own limit is. Prompts are read once, before the clock runs.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from bare import BareLoop, argmax, engine_seconds
from common import Table, arguments, paired_ratio, shuffled_rounds

import ovdecode as od

STEPS = 32
CONTEXTS = (128, 512, 2_048, 8_192)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS = 20.0
"""How long the rounds of one row may take."""


def main() -> None:
    options = arguments(__doc__)
    model = od.load("smollm2", threads=options.threads)
    invariant = od.load("smollm2", threads=options.threads, precision="invariant")
    limit = model.runner.context_length or max(CONTEXTS)
    contexts = [min(context, limit) for context in CONTEXTS]
    cases = [(count, 128) for count in SEQUENCES] + [(1, context) for context in contexts[1:]]
    if options.quick:
        cases = [(1, 128), (32, 128), (1, 2_048)]
    table = Table(
        f"greedy decoding as work grows; the model's limit is {limit} tokens of context",
        ["sequences", "context", "bare ms", "engine ms", "overhead %", "us a token", "invariant / fast"],
    )
    rng = np.random.default_rng(0)
    for count, context in cases:
        prompts = rng.integers(100, model.vocabulary.size, (count, context - STEPS)).tolist()
        held = [each.vocabulary.prompt(prompt) for each in (model, invariant) for prompt in prompts]  # in the caches
        loops = {
            "bare": partial(BareLoop(model, prompts, STEPS).seconds, argmax),
            "engine": partial(engine_seconds, model, prompts, "greedy", STEPS),
            "invariant": partial(engine_seconds, invariant, prompts, "greedy", STEPS),
        }
        seconds = shuffled_rounds(loops, rounds=2 if options.quick else 9, at_most=SECONDS)
        step = {name: np.median(values) / (STEPS - 1) for name, values in seconds.items()}
        table.add(
            count,
            context,
            1e3 * step["bare"],
            1e3 * step["engine"],
            100 * (paired_ratio(seconds["engine"], seconds["bare"]) - 1),
            1e6 * step["engine"] / count,
            paired_ratio(seconds["invariant"], seconds["engine"]),
        )
        del held, loops  # and with them the pages, before the next ones are taken
    table.finish(options, model)


if __name__ == "__main__":
    main()
