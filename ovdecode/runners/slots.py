"""The plan of a cache with one row for each sequence: which rows go on, which slots are seen, what is fed.

Pure bookkeeping in NumPy: `StatefulRunner` and `ExplicitRunner` share it, and it is tested without a model.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import CacheError
from ovdecode.sequence import Sequence

_SPARE_COLUMNS = 64


@dataclass
class Row:
    """One row of the cache: the tokens of one path of the tree, each in a slot of its own.

    Attributes:
        nodes: the path, from its first token on; those at its end may be gone.
        slots: the slot of each token, in order; at least as many as `nodes`.
        idle: dummy tokens that the row was fed since it was last asked about.
    """

    nodes: list[ref[Sequence]]
    slots: list[int]
    idle: int = 0

    def alive(self) -> int:
        """How many of its first tokens belong to a sequence that is alive."""
        while self.nodes and self.nodes[-1]() is None:
            self.nodes.pop()
        return len(self.nodes)

    def holds(self, node: Sequence) -> bool:
        """Whether a sequence of at least one token is on the path: all of its ancestors are then, too."""
        return node.length <= len(self.nodes) and self.nodes[node.length - 1]() is node


@dataclass(frozen=True)
class Step:
    """One rectangular inference.

    Every row brings `time` tokens. One that has fewer to bring is filled up, at its right, with dummies that
    nobody sees; a dummy itself sees the row's tokens, so that its attention is never empty, which would give
    NaN.

    Attributes:
        reset: forget all rows first; `beam_idx` is then 0, 1, 2, ...
        beam_idx: the row of the last inference that each row goes on from, shape (rows,).
        input_ids: shape (rows, time).
        position_ids: each token's place in its sequence, whatever its slot, shape (rows, time).
        attention_mask: 1 for the slots on the row's path, shape (rows, slots before + time).
        wanted_rows: positions in the flattened (rows, time) whose logits are wanted, request after request;
            at least one.
        starts: where each request's begin among them.
        rows: what the cache holds afterwards.
    """

    reset: bool
    beam_idx: NDArray[np.int32]
    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    wanted_rows: NDArray[np.int64]
    starts: list[int]
    rows: list[Row]


class Slots:
    """Which row and slot of the cache holds which token.

    All rows have the same number of slots, and every inference adds as many to each as its longest request
    brings; slots that are not on a row's path are masked. Taking tokens back is masking, forking is naming a
    row twice in `beam_idx`. A row that nobody asks about is kept while its sequence is alive, at the price of
    dummy tokens, until it has been fed as many as recomputing it would take. When more than half of the slots
    are wasted, everything is forgotten and the sequences that are asked about are recomputed: that costs no
    more than the waste did.

    Args:
        capacity: bound on rows times slots.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: list[Row] = []
        self._mask = np.zeros((0, 0), np.int64)  # (rows, columns), as last fed

    @property
    def columns(self) -> int:
        """Slots of each row."""
        return int(self._mask.shape[1])

    @property
    def in_use(self) -> int:
        """How many rows hold a sequence that is alive."""
        return len({row.nodes[-1]() for row in self._rows if row.alive()})

    def missing(self, sequence: Sequence) -> int:
        """How many of its tokens are in no row."""
        return sequence.length - self._source(sequence)[1]

    def fits(self, sequences: Items[Sequence]) -> int:
        """How many of these, in order, the cache can hold at the same time."""
        longest = 0
        for count, sequence in enumerate(sequences):
            longest = max(longest, sequence.length)
            if (count + 1) * longest > self.capacity:
                return count
        return len(sequences)

    def plan(self, wanted: Items[tuple[Sequence, int]]) -> Step:
        """Plan one inference for sequences, each with how many of its last positions are wanted.

        Every one must want a position or miss a token. Until `commit` is called with the step the cache
        counts as lost, since a failing inference leaves it undefined.

        Raises:
            CacheError: if they don't fit the cache together.
        """
        sequences = [sequence for sequence, _ in wanted]
        if self.fits(sequences) < len(wanted):
            raise CacheError(
                f"these {len(wanted)} sequences must fit the cache of {self.capacity} tokens together, "
                f"padded to the longest, {max(one.length for one in sequences)}, but do not; ask about fewer "
                "at once, or give `load` a larger `cache_bytes`"
            )
        sources = [self._source(sequence) for sequence in sequences]
        begins = [
            min(known, sequence.length - count) for (_, known), (sequence, count) in zip(sources, wanted, strict=True)
        ]
        time = max(one.length - begin for one, begin in zip(sequences, begins, strict=True))
        kept = self._worth_keeping(sequences, sources, time)
        longest = max([len(self._rows[index].nodes) for index in kept] + [one.length for one in sequences])
        columns = self.columns + time
        kept = kept[: max(self.capacity // columns - len(wanted), 0)]
        wasteful = columns > 2 * longest + _SPARE_COLUMNS or len(wanted) * columns > self.capacity
        if wasteful or not (kept or any(begins)):
            self._forget()
            sources, begins, kept = [(-1, 0)] * len(wanted), [0] * len(wanted), []
            time = max(one.length for one in sequences)
        step = self._step(wanted, [source for source, _ in sources], begins, kept, time)
        self._forget()
        return step

    def commit(self, step: Step) -> None:
        """Note that a planned inference was run."""
        self._rows, self._mask = step.rows, step.attention_mask

    def _forget(self) -> None:
        self._rows, self._mask = [], np.zeros((0, 0), np.int64)

    def _source(self, sequence: Sequence) -> tuple[int, int]:
        """The row that holds most of a sequence, and how many of its tokens; -1 and 0 if none holds any."""
        node: Sequence | None = sequence
        while node is not None and node.length:
            for index, row in enumerate(self._rows):
                if row.holds(node):
                    return index, node.length
            node = node.parent
        return -1, 0

    def _worth_keeping(self, sequences: list[Sequence], sources: list[tuple[int, int]], time: int) -> list[int]:
        """The rows nobody asked about that are worth `time` dummy tokens, the last ones asked about first."""
        kept: list[int] = []
        gone_on = {index for index, known in sources if known and known == self._rows[index].alive()}
        by_age = sorted(enumerate(self._rows), key=lambda place: (place[1].idle, -place[1].alive()))
        for index, row in by_age:
            if index in gone_on or row.idle + time > row.alive():
                continue
            tip = row.nodes[-1]()
            if tip is None or any(self._rows[other].holds(tip) for other in kept):
                continue
            if not any(one.length >= tip.length and one[: tip.length] is tip for one in sequences):
                kept.append(index)
        return kept

    def _step(
        self,
        wanted: Items[tuple[Sequence, int]],
        sources: list[int],
        begins: list[int],
        kept: list[int],
        time: int,
    ) -> Step:
        past = self.columns
        fresh = len(self._rows)  # as a source: none
        # In the order of their sources, so that rows that nobody forks or drops stay where they are.
        places = sorted(
            [(source if source >= 0 else fresh, request) for request, source in enumerate(sources)]
            + [(source, -1) for source in kept]
        )
        shape = (len(places), time)
        ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)  # (rows, time)
        mask = np.zeros((len(places), past + time), np.int64)  # (rows, past + time)
        beam_idx = np.arange(len(places), dtype=np.int32)
        if self._rows:
            beam_idx[:] = [source if source < fresh else 0 for source, _ in places]
            mask[:, :past] = self._mask[beam_idx]
        rows: list[Row] = []
        row_of = [0] * len(wanted)
        for place, (source, request) in enumerate(places):
            old = self._rows[source] if source < fresh else None
            if request < 0:
                assert old is not None
                mask[place, old.slots[old.alive() :]] = 0
                rows.append(Row(old.nodes, old.slots, old.idle + time))
                continue
            sequence, begin = wanted[request][0], begins[request]
            if old is None:
                mask[place] = 0
                old = Row([], [])
            mask[place, old.slots[begin:]] = 0
            count = sequence.length - begin
            mask[place, past : past + count] = 1
            ids[place, :count] = sequence.tokens[begin:]
            positions[place, :count] = range(begin, sequence.length)
            nodes = old.nodes[:begin] + [ref(node) for node in sequence.path(begin)]
            rows.append(Row(nodes, [*old.slots[:begin], *range(past, past + count)]))
            row_of[request] = place
        starts: list[int] = []
        flat: list[int] = []
        for request, (sequence, count) in enumerate(wanted):
            starts.append(len(flat))
            end = row_of[request] * time + sequence.length - begins[request]
            flat += range(end - count, end)
        wanted_rows = np.array(flat or [0], np.int64)  # a product of no rows is not for every device
        return Step(past == 0, beam_idx, ids, positions, mask, wanted_rows, starts, rows)
