"""One compiled graph with its paged cache: turns requests into one ragged inference, and outputs into answers."""

from __future__ import annotations

from collections.abc import Sequence as Items
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import Pending
from ovdecode.runners.graph import WANTED_ROWS
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.runners.pages import Page, PageCache
from ovdecode.runners.tensors import Outputs, sealed
from ovdecode.sequence import Sequence


class Lane:
    """Runs requests that are all plain, or all rich, on a graph that is compiled for them.

    Args:
        graph: the compiled model and its memory.
        at_least: how many tokens a sequence must bring, and how many rows a product must have; 2 makes the bits of the
            logits independent of the batch, since a single one takes another kernel.
        at_most: how many tokens one inference may have, if more take another kernel; requests for more are answered by
            several inferences.
    """

    def __init__(self, graph: PagedGraph, at_least: int = 1, at_most: int | None = None) -> None:
        self.graph, self._at_least, self._at_most = graph, at_least, at_most
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
        """Start one inference for all requests; further ones, where they are too long for one, follow it."""
        wanted = [(request.sequence, self._first(request)) for request in requests]
        self.cache.reserve(wanted)
        copies: list[tuple[int, int]] = []
        placements = [self.cache.place(sequence, first, copies) for sequence, first in wanted]
        self.graph.copy_pages(copies)
        whole = [
            Span(request.sequence, placement.page, placement.start, request.sequence.length, request.rows)
            for request, placement in zip(requests, placements, strict=True)
        ]
        first, *others = [whole] if self._at_most is None else split(whole, self._at_most, self._at_least)
        wait = self.graph.start(self._feed(first))

        def answers() -> list[Answer]:
            outputs = self._read_out(wait(), requests)
            if others:
                rest = [self._read_out(self.graph.start(self._feed(spans))(), requests) for spans in others]
                outputs = _joined([first, *others], [outputs, *rest])
            for placement in placements:
                self.cache.store(placement)
            starts = accumulate((request.rows for request in requests), initial=0)
            return [_answer(request, start, outputs) for request, start in zip(requests, starts, strict=False)]

        return answers

    def _first(self, request: Forward) -> int:
        """The first position that must be fed, in the cache or not: all wanted ones, and never one token alone."""
        return max(request.sequence.length - max(request.rows, self._at_least), 0)

    def _feed(self, spans: list[Span]) -> dict[str, NDArray[Any]]:
        """The inputs of one inference; its outputs have the wanted rows of every span, in order."""
        tokens: list[int] = []
        positions: list[int] = []
        pasts: list[int] = []
        begins = [0]
        tables: list[NDArray[np.int32]] = []
        wanted: list[int] = []
        for sequence, page, begin, end, rows in spans:
            if sequence.length - begin == 1:
                tokens.append(sequence.token)
                positions.append(begin)
            else:
                tokens += sequence.tokens[begin:end].tolist()
                positions += range(begin, end)
            pasts.append(begin)
            begins.append(len(tokens))
            tables.append(page.table)
            wanted += range(len(tokens) - rows, len(tokens))
        if len(tokens) < self._at_least:  # one token alone, such as a prompt of one: it gets company
            tokens += [0] * self._at_least
            positions += range(self._at_least)
            pasts.append(0)
            begins.append(len(tokens))
            tables.append(self._filler)
        wanted += [len(tokens) - 1] * (self._at_least - len(wanted))
        return {
            "input_ids": np.array(tokens, np.int64),  # (tokens,)
            "position_ids": np.array(positions, np.int64),  # (tokens,)
            "past_lens": np.array(pasts, np.int32),  # (sequences,)
            "subsequence_begins": np.array(begins, np.int32),  # (sequences + 1,)
            "block_indices": np.concatenate(tables),  # (pages,)
            "block_indices_begins": np.array([0, *accumulate(map(len, tables))], np.int32),  # (sequences + 1,)
            "max_context_len": np.array(max(self._at_least, *(span.end for span in spans)), np.int32),  # ()
            WANTED_ROWS: np.array(wanted, np.int64),  # (rows,)
        }

    def _read_out(self, outputs: Outputs, requests: Items[Forward]) -> Outputs:
        """With the logits of the inner layers that are asked for, under their numbers.

        All rows of an inference at once: a product with a single row would take another kernel, with other bits.
        """
        for layer in {layer for request in requests for layer in request.layers}:
            outputs[_inner(layer)] = self.graph.read_out(outputs[f"hidden.{layer}"])
        return outputs


class Span(NamedTuple):
    """Tokens of a sequence that one inference computes.

    Attributes:
        sequence: whose they are.
        page: the last of the sequence's pages.
        begin, end: from which position on, and before which.
        rows: after how many of them, the last ones, logits are wanted.
    """

    sequence: Sequence
    page: Page
    begin: int
    end: int
    rows: int


def split(spans: list[Span], at_most: int, at_least: int) -> list[list[Span]]:
    """Share spans out among inferences of at most so many tokens, in order, with no piece of less than so many.

    Args:
        at_most: twice `at_least` or more.
    """
    parts: list[list[Span]] = [[]]
    room = at_most
    for sequence, page, begin, end, rows in spans:
        while end - begin > room:
            cut = begin + min(room, end - begin - at_least)
            if cut - begin >= at_least:
                after = min(rows, end - cut)
                parts[-1].append(Span(sequence, page, begin, cut, rows - after))
                begin, rows = cut, after
            parts.append([])
            room = at_most
        parts[-1].append(Span(sequence, page, begin, end, rows))
        room -= end - begin
    return parts


def _joined(parts: list[list[Span]], outputs: list[Outputs]) -> Outputs:
    """The wanted rows of several inferences, one after another."""
    counts = [sum(span.rows for span in spans) for spans in parts]
    rows = {
        name: np.concatenate([each[name][:count] for each, count in zip(outputs, counts, strict=True)])
        for name in outputs[0]
    }
    return sealed(rows)


def _inner(layer: int) -> str:
    """The name of the logits that are read out at a layer."""
    return f"logits.{layer}"


def _answer(request: Forward, start: int, outputs: Outputs) -> Answer:
    """One request's rows of the outputs."""
    rows = slice(start, start + request.rows)
    hidden = outputs["hidden.final"][rows] if request.hidden else None
    layers = {layer: outputs[_inner(layer)][rows] for layer in request.layers} or None
    peaks = outputs["peaks"][rows] if "peaks" in outputs else None
    return Answer(outputs["logits"][rows], outputs["logsumexp"][rows], hidden, layers, peaks)
