"""What does sharing a batch bring? Six methods on eight prompts together, against one (method, prompt) after another.

    python benchmarks/shared_batch.py [--quick] [--threads 2] [--json results.json]

Both ways run on the same model in the same process, in turn. In `invariant`, which is measured too, both give the same
tokens, and the benchmark checks it.
"""

from __future__ import annotations

import time

import numpy as np
from common import Table, arguments, shuffled_rounds

import ovdecode as od

METHODS = [
    "greedy",
    "sampling:temperature=0.8,top_p=0.95",
    "sampling:temperature=1.2,min_p=0.1",
    "sampling:typical=0.9",
    "beam:num_beams=4,processors=(no_repeat_ngram:size=3)",
    "speculative:proposer=(prompt_lookup:min_ngram=2)",  # a match of one token is right one time in fifty here
]
PROMPTS = [
    "Once upon a time, in a small village by the sea,",
    "The three most important inventions of the twentieth century are",
    "To make a good cup of coffee, first",
    "def fibonacci(n):\n",
    "The difference between weather and climate is",
    "Dear Sir or Madam, I am writing to",
    "In the year 2050, most people will",
    "The capital of Australia is Canberra, which",
]
NEW = 48


def main() -> None:
    options = arguments(__doc__)
    table = Table("six methods x eight prompts", ["precision", "tokens", "together s", "one by one s", "times as fast"])
    for precision in ("fast", "invariant"):
        model = od.load("smollm2", threads=options.threads, precision=precision)
        tasks = [od.Task(model, prompt, method, max_new_tokens=NEW) for method in METHODS for prompt in PROMPTS]
        found: dict[str, list[tuple[int, ...]]] = {}

        def together(tasks: list[od.Task] = tasks, found: dict[str, list[tuple[int, ...]]] = found) -> float:
            begin = time.perf_counter()
            results = sorted(od.run(tasks), key=lambda generation: generation.index)
            seconds = time.perf_counter() - begin
            found["together"] = [generation.tokens for generation in results]
            return seconds

        def one_by_one(tasks: list[od.Task] = tasks, found: dict[str, list[tuple[int, ...]]] = found) -> float:
            begin = time.perf_counter()
            found["one by one"] = [next(od.run([task])).tokens for task in tasks]
            return time.perf_counter() - begin

        loops = {"together": together, "one by one": one_by_one}
        seconds = shuffled_rounds(loops, rounds=1 if options.quick else 5)
        if precision == "invariant" and found["together"] != found["one by one"]:
            raise SystemExit("in `invariant`, the shared batch must give the same tokens, but it does not")
        ratios = np.array(seconds["one by one"]) / np.array(seconds["together"])
        tokens = sum(map(len, found["together"]))
        table.add(
            precision,
            tokens,
            np.median(seconds["together"]),
            np.median(seconds["one by one"]),
            np.median(ratios),
        )
    table.finish(options, model)


if __name__ == "__main__":
    main()
