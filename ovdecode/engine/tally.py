"""What a task's requests cost, counted as if it ran alone."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING
from weakref import ref

from ovdecode.forward import Forward
from ovdecode.sequence import Sequence

if TYPE_CHECKING:
    from ovdecode.model import Model


class Tally:
    """Adds up what is asked, round by round; see `ovdecode.generation.Cost` for what the figures mean."""

    def __init__(self) -> None:
        self.forwards = self.tokens = self.cache_bytes = 0
        self._held = 0
        self._trees: dict[Model, _Tree] = {}

    def add(self, asked: Items[tuple[Model, Forward]]) -> None:
        """Count one round: the requests that were answered, each with the model that it went to."""
        if len(asked) == 1:
            model, request = asked[0]
            self._move(model, {request.sequence: request.rows})
        else:
            wanted: dict[Model, dict[Sequence, int]] = {}
            for model, request in asked:  # a request made twice is answered by one row
                wanted.setdefault(model, {}).setdefault(request.sequence, request.rows)
            for model, rows in wanted.items():
                self._move(model, rows)
        self.cache_bytes = max(self.cache_bytes, self._held)

    def _move(self, model: Model, wanted: dict[Sequence, int]) -> None:
        tree = self._trees.get(model)
        if tree is None:
            tree = self._trees[model] = _Tree()
        before = tree.held
        self.forwards += 1
        self.tokens += tree.move(wanted)
        self._held += (tree.held - before) * model.runner.token_bytes

    def forget(self) -> None:
        """Let go of all but the figures."""
        self._trees.clear()


class _Tree:
    """The sequences of the last round on one model, and all nodes that were ever asked about.

    Each node of the last round counts those that end there and its children, so that a round costs no more than what
    is new in it and what is gone. Nodes are known by weak references: whoever refers to one keeps its place in the
    cache. As long as there is but one sequence, and it grows, a list of its nodes is enough.

    Attributes:
        held: how many distinct tokens the sequences of the last round have.
    """

    def __init__(self) -> None:
        self.held = 0
        self._nodes: dict[ref[Sequence], _Node] = {}
        self._ends: list[ref[Sequence]] = []
        self._line: list[ref[Sequence]] = []

    def move(self, wanted: Mapping[Sequence, int]) -> int:
        """Go on to the next round's sequences, each with how many rows of it are wanted; the tokens to be computed."""
        if self._line and len(wanted) == 1:
            ((sequence, rows),) = wanted.items()
            if self._line[-1]() is sequence.parent:
                self._line.append(ref(sequence))
                self.held += 1
                return max(1, rows)
        first = not self._nodes
        self._leave_line()
        tokens = sum(max(self._hold(sequence), rows) for sequence, rows in wanted.items())
        for end in self._ends:
            self._drop(end)
        self._ends = [ref(sequence) for sequence in wanted]
        if first and len(self._ends) == 1:
            self._line = self._ends.copy()
        return tokens

    def _leave_line(self) -> None:
        """Note what the list has after its first node, which is noted already; what is gone is held no more."""
        for key in self._line[1:]:
            if key() is None:
                self.held -= 1
            else:
                self._nodes[key] = _Node(1, self._ends[0])
                self._ends[0] = key
        self._line.clear()

    def _hold(self, sequence: Sequence) -> int:
        """Add a sequence; how many of its tokens were never asked about."""
        new, node = 0, sequence
        while node.parent is not None:  # the empty sequence takes no room
            known = self._nodes.get(ref(node))
            if known is None:
                above = ref(node.parent) if node.parent.parent is not None else None
                known = self._nodes[ref(node)] = _Node(0, above)
                new += 1
            known.users += 1
            if known.users > 1:
                break
            self.held += 1
            node = node.parent
        return new

    def _drop(self, key: ref[Sequence] | None) -> None:
        while key is not None:
            known = self._nodes[key]
            known.users -= 1
            if known.users:
                return
            self.held -= 1
            key = known.parent


class _Node:
    """How many of the last round's sequences end at a node, or go on from it; and the node before it."""

    __slots__ = ("parent", "users")

    def __init__(self, users: int, parent: ref[Sequence] | None) -> None:
        self.users, self.parent = users, parent
