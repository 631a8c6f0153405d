"""What does choosing a token cost? Microseconds a row, by method and vocabulary, beside transformers and llama.cpp.

    python benchmarks/samplers.py [--quick] [--threads 2] [--json results.json]

With `--threads 1` the processor time of the one thread counts, which a neighbour on the cores changes little.

No model runs: rows are random logits with a language model's fall-off, and a method chooses a token of each: the whole
chain and the draw. transformers (which needs torch) and llama.cpp (llama-cpp-python) are measured where they are
installed, on the same rows, in the same rounds. Rows change from call to call, as they do in decoding.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from common import Table, arguments, shuffled_rounds

import ovdecode as od

VOCABULARIES = (49_152, 151_936)
ROWS = 16
CHAINS = {
    "argmax": "",
    "T + top-p 0.95": "temperature:temperature=0.8|top_p:p=0.95",
    "top-p 0.95": "top_p:p=0.95",
    "T + min-p 0.05": "temperature:temperature=0.8|min_p:p=0.05",
    "typical 0.95": "typical:mass=0.95",
    "T + top-k 50 + top-p 0.95": "temperature:temperature=0.8|top_k:k=50|top_p:p=0.95",
}
Choose = Callable[[np.ndarray], int]


def rows(vocab: int) -> np.ndarray:
    """Logits, (ROWS, vocab): normal noise, and a head whose probabilities fall off as a model's do."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 1.5, (ROWS, vocab)).astype(np.float32)
    for row in logits:
        row[rng.permutation(vocab)[:300]] += np.linspace(16, 4, 300, dtype=np.float32)
    return logits


def ours(spec: str) -> Choose:
    """A chain of this project, and a draw; greedy without one."""
    rng, sequence = od.Random(0), od.Vocabulary(1).root
    if not spec:
        return lambda row: od.Candidates(row).argmax()
    chain = od.parse(spec, "processor")
    return lambda row: chain(od.Candidates(row), sequence).draw(rng)  # type: ignore[operator]


def log_softmax(row: np.ndarray) -> int:
    """The yardstick: one log-softmax of the row in plain NumPy."""
    shifted = row - row.max()
    return int((shifted - np.log(np.exp(shifted).sum()))[0])


def transformers_chain(name: str) -> Choose | None:
    """transformers' processors for a chain, and torch's multinomial; None where they are not installed."""
    try:
        import torch
        from transformers.generation import logits_process as hf
    except ImportError:
        return None
    known: dict[str, list[Any]] = {
        "T + top-p 0.95": [hf.TemperatureLogitsWarper(0.8), hf.TopPLogitsWarper(0.95)],
        "top-p 0.95": [hf.TopPLogitsWarper(0.95)],
        "T + min-p 0.05": [hf.TemperatureLogitsWarper(0.8), hf.MinPLogitsWarper(0.05)],
        "typical 0.95": [hf.TypicalLogitsWarper(0.95)],
        "T + top-k 50 + top-p 0.95": [
            hf.TemperatureLogitsWarper(0.8),
            hf.TopKLogitsWarper(50),
            hf.TopPLogitsWarper(0.95),
        ],
    }
    if name not in known:
        return None
    ids = torch.zeros((1, 1), dtype=torch.long)

    def choose(row: np.ndarray) -> int:
        scores = torch.from_numpy(row)[None]
        for processor in known[name]:
            scores = processor(ids, scores)
        return int(torch.multinomial(scores.softmax(-1), 1))

    return choose


def llama_chain(name: str, vocab: int) -> Choose | None:
    """llama.cpp's samplers for a chain, on candidates that are filled from the row as its own code does."""
    try:
        import llama_cpp as lc
    except ImportError:
        return None
    known: dict[str, list[Any]] = {
        "T + top-p 0.95": [partial(lc.llama_sampler_init_temp, 0.8), partial(lc.llama_sampler_init_top_p, 0.95, 1)],
        "top-p 0.95": [partial(lc.llama_sampler_init_top_p, 0.95, 1)],
        "T + min-p 0.05": [partial(lc.llama_sampler_init_temp, 0.8), partial(lc.llama_sampler_init_min_p, 0.05, 1)],
        "typical 0.95": [partial(lc.llama_sampler_init_typical, 0.95, 1)],
        "T + top-k 50 + top-p 0.95": [
            partial(lc.llama_sampler_init_temp, 0.8),
            partial(lc.llama_sampler_init_top_k, 50),
            partial(lc.llama_sampler_init_top_p, 0.95, 1),
        ],
    }
    if name not in known:
        return None
    chain = lc.llama_sampler_chain_init(lc.llama_sampler_chain_default_params())
    for make in [*known[name], partial(lc.llama_sampler_init_dist, 0)]:
        lc.llama_sampler_chain_add(chain, make())
    entry = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    data, ids = np.empty(vocab, entry), np.arange(vocab, dtype=np.int32)
    pointer = data.ctypes.data_as(ctypes.POINTER(lc.llama_token_data))

    def choose(row: np.ndarray) -> int:
        data["id"], data["logit"], data["p"] = ids, row, 0.0
        array = lc.llama_token_data_array(data=pointer, size=vocab, selected=-1, sorted=False)
        lc.llama_sampler_apply(chain, ctypes.byref(array))
        return int(data["id"][array.selected])

    return choose


def timed(choose: Choose, logits: np.ndarray, clock: Callable[[], float]) -> float:
    """Seconds a row."""
    begin = clock()
    for row in logits:
        choose(row)
    return (clock() - begin) / len(logits)


def main() -> None:
    options = arguments(__doc__)
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(options.threads)
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    table = Table("microseconds to choose a token of one row", ["vocabulary", "method", "who", "us", "times ours"])
    for vocab in VOCABULARIES:
        logits = rows(vocab)
        for name, spec in CHAINS.items():
            who = {
                "ovdecode": ours(spec),
                "transformers": transformers_chain(name),
                "llama.cpp": llama_chain(name, vocab),
                "(log-softmax)": log_softmax,
            }
            loops = {key: partial(timed, choose, logits, clock) for key, choose in who.items() if choose is not None}
            seconds = shuffled_rounds(loops, rounds=5 if options.quick else 25)
            for key, values in seconds.items():
                ratio = np.median(np.array(values) / np.array(seconds["ovdecode"]))
                table.add(vocab, name, key, np.median(values) * 1e6, ratio)
    table.finish(options)


if __name__ == "__main__":
    main()
