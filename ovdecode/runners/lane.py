"""One compiled graph with its paged cache: turns requests into one ragged inference, and outputs into answers."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.forward import Answer, Forward, Logits
from ovdecode.runners.base import Pending
from ovdecode.runners.graph import WANTED_ROWS
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.runners.pages import PageCache, Placement
from ovdecode.runners.tensors import Outputs


class Lane:
    """Runs requests that are all plain, or all rich, on a graph that is compiled for them.

    Args:
        graph: the compiled model and its memory.
        at_least: how many tokens a sequence must bring, and how many rows a product must have; 2 makes the bits of the
            logits independent of the batch, since a single one takes another kernel.
    """

    def __init__(self, graph: PagedGraph, at_least: int) -> None:
        self.graph, self._at_least = graph, at_least
        self.cache = PageCache(graph.pages - 1, graph.page_size, not graph.quantised)
        self._filler = np.array([graph.pages - 1], np.int32)  # the last page is the lane's own

    @property
    def in_use(self) -> int:
        """Pages that hold keys and values of living sequences."""
        return self.cache.in_use

    def missing(self, request: Forward) -> int:
        """How many of the sequence's tokens are not in the cache."""
        return self.cache.missing(request.sequence)

    def fits(self, requests: Items[Forward]) -> int:
        """How many of these, in order, the cache can hold together."""
        return self.cache.fits([(request.sequence, self._first(request)) for request in requests])

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start one inference for all requests."""
        wanted = [(request.sequence, self._first(request)) for request in requests]
        self.cache.reserve(wanted)
        copies: list[tuple[int, int]] = []
        placements = [self.cache.place(sequence, first, copies) for sequence, first in wanted]
        self.graph.copy_pages(copies)
        feed, starts = self._feed(requests, placements)
        wait = self.graph.start(feed)

        def answers() -> list[Answer]:
            outputs = wait()
            for placement in placements:
                self.cache.store(placement)
            # All rows at once: a product with a single row would take another kernel, with other bits.
            layers = {layer for request in requests for layer in request.layers}
            inner = {layer: self.graph.read_out(outputs[f"hidden.{layer}"]) for layer in layers}
            return [_answer(request, start, outputs, inner) for request, start in zip(requests, starts, strict=True)]

        return answers

    def _first(self, request: Forward) -> int:
        """The first position that must be fed, in the cache or not: all wanted ones, and never one token alone."""
        return max(request.sequence.length - max(request.rows, self._at_least), 0)

    def _feed(self, requests: Items[Forward], placements: list[Placement]) -> tuple[dict[str, NDArray[Any]], list[int]]:
        """The inputs of one inference, and where each request's wanted rows begin among its outputs."""
        tokens: list[int] = []
        positions: list[int] = []
        pasts: list[int] = []
        begins = [0]
        tables: list[NDArray[np.int32]] = []
        wanted: list[int] = []
        starts: list[int] = []
        for request, placement in zip(requests, placements, strict=True):
            sequence, first = request.sequence, placement.start
            length = sequence.length
            if length - first == 1:
                tokens.append(sequence.token)
                positions.append(first)
            else:
                tokens += sequence.tokens[first:].tolist()
                positions += range(first, length)
            pasts.append(first)
            begins.append(len(tokens))
            tables.append(placement.page.table)
            starts.append(len(wanted))
            wanted += range(len(tokens) - request.rows, len(tokens))
        if len(tokens) < self._at_least:  # one token alone, such as a prompt of one: it gets company
            tokens += [0] * self._at_least
            positions += range(self._at_least)
            pasts.append(0)
            begins.append(len(tokens))
            tables.append(self._filler)
        wanted += [len(tokens) - 1] * (self._at_least - len(wanted))
        feed: dict[str, NDArray[Any]] = {
            "input_ids": np.array(tokens, np.int64),  # (tokens,)
            "position_ids": np.array(positions, np.int64),  # (tokens,)
            "past_lens": np.array(pasts, np.int32),  # (sequences,)
            "subsequence_begins": np.array(begins, np.int32),  # (sequences + 1,)
            "block_indices": np.concatenate(tables),  # (pages,)
            "block_indices_begins": np.array([0, *accumulate(map(len, tables))], np.int32),  # (sequences + 1,)
            "max_context_len": np.array(
                max(self._at_least, *(request.sequence.length for request in requests)), np.int32
            ),  # ()
            WANTED_ROWS: np.array(wanted, np.int64),  # (rows,)
        }
        return feed, starts


def _answer(request: Forward, start: int, outputs: Outputs, inner: Mapping[int, Logits]) -> Answer:
    """One request's rows of the outputs, and of the logits read out at inner layers."""
    rows = slice(start, start + request.rows)
    hidden = outputs["hidden.final"][rows] if request.hidden else None
    layers = {layer: inner[layer][rows] for layer in request.layers} or None
    peaks = outputs["peaks"][rows] if "peaks" in outputs else None
    return Answer(outputs["logits"][rows], outputs["logsumexp"][rows], hidden, layers, peaks)
