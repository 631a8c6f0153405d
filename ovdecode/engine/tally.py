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
        before = len(tree)
        self.forwards += 1
        self.tokens += tree.move(wanted)
        self._held += (len(tree) - before) * model.runner.token_bytes

    def forget(self) -> None:
        """Let go of all but the figures."""
        self._trees.clear()


class _Tree:
    """The sequences of the last round on one model, and all nodes that were ever asked about.

    Each node of the last round counts those that end there and its children, so that a round costs no more than what
    is new in it and what is gone. Nodes are known by weak references: whoever refers to one keeps its place in the
    cache.
    """

    def __init__(self) -> None:
        self._seen = set[ref[Sequence]]()
        self._users: dict[ref[Sequence], int] = {}
        self._parents: dict[ref[Sequence], ref[Sequence]] = {}
        self._ends: list[ref[Sequence]] = []

    def __len__(self) -> int:
        """How many distinct tokens the sequences of the last round have."""
        return len(self._users)

    def move(self, wanted: Mapping[Sequence, int]) -> int:
        """Go on to the next round's sequences, each with how many rows of it are wanted; the tokens to be computed."""
        if len(wanted) == len(self._ends) == 1:
            ((sequence, rows),) = wanted.items()
            if self._ends[0]() is sequence.parent:
                return max(self._extend(sequence), rows)
        tokens = sum(max(self._hold(sequence), rows) for sequence, rows in wanted.items())
        for end in self._ends:
            self._drop(end)
        self._ends = [ref(sequence) for sequence in wanted]
        return tokens

    def _extend(self, node: Sequence) -> int:
        """Go from the only sequence to its child: what comes of `_hold` and `_drop`, without the walk."""
        key, (parent,) = ref(node), self._ends
        new = key not in self._seen
        self._seen.add(key)
        self._users[key], self._parents[key], self._ends[0] = 1, parent, key
        return int(new)

    def _hold(self, node: Sequence) -> int:
        """Add a sequence; how many of its tokens were never asked about."""
        new, key = 0, ref(node)
        while key not in self._users:
            if key not in self._seen:
                self._seen.add(key)
                new += 1
            self._users[key] = 1
            assert node.parent is not None
            node = node.parent
            if node.parent is None:  # the empty sequence takes no room
                return new
            self._parents[key] = ref(node)
            key = self._parents[key]
        self._users[key] += 1
        return new

    def _drop(self, key: ref[Sequence] | None) -> None:
        while key is not None:
            self._users[key] -= 1
            if self._users[key]:
                return
            del self._users[key]
            key = self._parents.pop(key, None)
