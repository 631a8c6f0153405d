"""The yardstick: an infer-request loop on a model's own compiled graph, as OpenVINO's guide would have one write it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import ovdecode as od
from ovdecode.runners.paged import PagedRunner

PIECE = 512
"""Tokens of one inference while the prompts are read."""

Choose = Callable[[np.ndarray], np.ndarray]


class BareLoop:
    """Greedy or any other row-wise decoding of prompts of one length, without strategies, stops or bookkeeping.

    It runs on a request of its own of the graph that the engine runs on, in pages of the same caches, which it keeps
    from the engine as long as it lives. The prompts are read once, here.

    Args:
        model: loaded with the paged runner.
        prompts: token ids, all of one length.
        steps: how many tokens to choose.
    """

    def __init__(self, model: od.Model, prompts: list[list[int]], steps: int) -> None:
        assert isinstance(model.runner, PagedRunner)
        lane = model.runner._lanes[False]
        self._request = lane.graph._request.get_compiled_model().create_infer_request()
        lane.graph.memory.bind(self._request)
        self._count, self._past, self._steps = len(prompts), len(prompts[0]), steps
        self._pages = -(-(self._past + steps) // lane.graph.memory.page_size)  # of one prompt
        self._taken = [lane.cache.take(None) for _ in range(self._count * self._pages)]
        self._tables = np.array([page.number for page in self._taken], np.int32)
        tokens = np.array(prompts, np.int64)  # (count, past)
        width = max(1, PIECE // self._count)
        for begin in range(0, self._past, width):
            self._logits = self._infer(tokens[:, begin : begin + width], begin).copy()

    def seconds(self, choose: Choose) -> float:
        """Seconds of all steps after the first token.

        Args:
            choose: the next token of each row, (rows, vocab) to (rows,).
        """
        logits = self._logits
        begin = time.perf_counter()
        for step in range(self._steps - 1):
            logits = self._infer(choose(logits)[:, None], self._past + step)
        return time.perf_counter() - begin

    def _infer(self, tokens: np.ndarray, past: int) -> np.ndarray:
        """The logits after the new tokens of every prompt, (count, new) to (count, vocab)."""
        count, new = tokens.shape
        feed = {
            "input_ids": tokens.ravel(),
            "position_ids": np.tile(np.arange(past, past + new), count),
            "past_lens": np.full(count, past, np.int32),
            "subsequence_begins": (np.arange(count + 1) * new).astype(np.int32),
            "block_indices": self._tables,
            "block_indices_begins": (np.arange(count + 1) * self._pages).astype(np.int32),
            "max_context_len": np.array(past + new, np.int32),
            "wanted_rows": np.arange(count) * new + new - 1,
        }
        logits: np.ndarray = self._request.infer(feed, share_inputs=True, share_outputs=True)["logits"]
        return logits


def argmax(logits: np.ndarray) -> np.ndarray:
    """The best token of each row, (rows, vocab) to (rows,)."""
    best: np.ndarray = logits.argmax(axis=1)
    return best


def engine_seconds(
    model: od.Model, prompts: list[list[int]], strategy: str, steps: int, max_tokens: int = PIECE
) -> float:
    """Seconds of the same steps through the engine: from the first token of all to the last.

    Args:
        max_tokens: of one inference. With all prompts read at once, every task begins to decode in the same round.
    """
    tasks = [
        od.Task(model, prompt, strategy, max_new_tokens=steps, ignore_eos=True, seed=number)
        for number, prompt in enumerate(prompts)
    ]
    results = list(od.run(tasks, max_live=len(tasks), max_tokens=max_tokens))
    for result in results:
        if result.error is not None:
            raise result.error
    return max(result.cost.seconds for result in results) - max(result.cost.time_to_first_token for result in results)
