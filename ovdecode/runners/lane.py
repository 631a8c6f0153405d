"""One compiled graph with its paged cache: turns requests into one ragged inference, and outputs into answers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Sequence as Items
from itertools import accumulate

import numpy as np

from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import Pending
from ovdecode.runners.feed import Feed
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.runners.pages import PageCache, PageCopy, Placement
from ovdecode.runners.steady import Steady
from ovdecode.runners.tensors import Outputs, sealed

COMPANY = 2
"""Tokens that make up, as one sequence, for however many sequences are missing in an inference."""


class Lane:
    """Runs requests that are all plain, or all rich, on a graph that is compiled for them.

    Inferences are filled up with tokens that nobody asks about, so that their number seldom changes (`Steady`).

    What changes the bits of a row was found by experiment, and is tested on every machine when a model is loaded:

    - A sequence that brings one new token takes another attention kernel than one that brings several. So every token
      is fed as a sequence of its own, of one new token: in one inference, keys and values of all are written first.
    - Fewer such sequences than threads are split along their context, each thread adding up a part of it. So there is
      always company (`Feed.fill`).
    - A matrix product of few rows, or of many, may take another kernel (`even_rows`). So an inference has no fewer, nor
      more.

    Args:
        graph: the compiled model and its memory. If it names its `even_rows`, these rules are kept, by which the bits
            of the logits depend neither on the batch, nor on the way in which the tokens came into the cache.
    """

    def __init__(self, graph: PagedGraph) -> None:
        self.graph, memory = graph, graph.memory
        self._even = graph.even_rows
        self._sequences, self._rows = (0, 1) if self._even is None else (max(2, graph.threads), self._even.start)
        self._steady = Steady(sys.maxsize if self._even is None else self._even[-1])
        self.cache = PageCache(memory.pages - 1, memory.page_size, memory.rewritable)
        self._filler = np.array([memory.pages - 1], np.int32)  # the last page is the lane's own

    @property
    def in_use(self) -> int:
        """Pages that hold keys and values of living sequences."""
        return self.cache.in_use

    def missing(self, request: Forward) -> int:
        """How many of the sequence's tokens are not in the cache."""
        return self.cache.missing(request.sequence)

    def fits(self, requests: Items[Forward]) -> int:
        """How many of these, in order, the cache can hold together."""
        return self.cache.fits([(request.sequence, _first(request)) for request in requests])

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start one inference for all requests; or, if they are many and must be the same in any company, run several
        and start the last."""
        wanted = [(request.sequence, _first(request)) for request in requests]
        self.cache.reserve(wanted)
        copies: list[PageCopy] = []
        placements = [self.cache.place(sequence, first, copies) for sequence, first in wanted]
        self.graph.copy_pages(copies)
        layers = {layer for request in requests for layer in request.layers}
        *earlier, feed = self._feeds(requests, placements)
        parts = [self._outputs(each, self._start(each)(), layers) for each in earlier]
        wait = self._start(feed)

        def answers() -> list[Answer]:
            outputs = self._outputs(feed, wait(), layers)
            if parts:
                outputs = _joined([*parts, outputs])
            for placement in placements:
                self.cache.store(placement)
            starts = accumulate((request.rows for request in requests), initial=0)
            return [_answer(request, start, outputs) for request, start in zip(requests, starts, strict=False)]

        return answers

    def _start(self, feed: Feed) -> Callable[[], Outputs]:
        company = max(0, min(self._sequences - feed.sequences, COMPANY))
        feed.fill(self._steady(max(len(feed) + company, self._rows)), self._filler)
        return self.graph.start(feed.inputs(self._rows))

    def _outputs(self, feed: Feed, outputs: Outputs, layers: set[int]) -> Outputs:
        """The outputs, with the logits read out at inner layers, of the wanted rows."""
        # All rows at once: a product with a single row would take another kernel, with other bits.
        inner = {_layer(layer): self.graph.read_out(outputs[f"hidden.{layer}"]) for layer in layers}
        return {name: rows[: len(feed.wanted)] for name, rows in {**outputs, **inner}.items()}

    def _feeds(self, requests: Items[Forward], placements: list[Placement]) -> list[Feed]:
        """The inputs of the inferences that these take."""
        feeds = [Feed()]
        for request, placement in zip(requests, placements, strict=True):
            sequence, first, table = request.sequence, placement.start, placement.page.table
            length = sequence.length
            if length - first == 1:
                tokens = [sequence.token]
            else:
                tokens = sequence.tokens[first:].tolist()
            if self._even is None:
                feeds[-1].add(tokens, first, table, request.rows)
                continue
            for position, token in enumerate(tokens, first):
                if len(feeds[-1]) + COMPANY == self._even[-1]:
                    feeds.append(Feed())
                pages = table[: position // self.cache.size + 1]
                feeds[-1].add([token], position, pages, int(position >= length - request.rows))
        return feeds


def _first(request: Forward) -> int:
    """The first position that must be fed, in the cache or not: all wanted ones, and at least the last."""
    return max(request.sequence.length - max(request.rows, 1), 0)


def _layer(layer: int) -> str:
    return f"layer.{layer}"


def _joined(parts: list[Outputs]) -> Outputs:
    """The rows of several inferences, one after another."""
    return sealed({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _answer(request: Forward, start: int, outputs: Outputs) -> Answer:
    """One request's rows of the outputs."""
    rows = slice(start, start + request.rows)
    hidden = outputs["hidden.final"][rows] if request.hidden else None
    layers = {layer: outputs[_layer(layer)][rows] for layer in request.layers} or None
    further = [outputs[name][rows] for name in ("blocks", "weights") if name in outputs]
    return Answer(outputs["logits"][rows], outputs["logsumexp"][rows], hidden, layers, *further)
