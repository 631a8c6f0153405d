"""The tree of what a method looked at: sequences that begin alike share their beginning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass
class Node:
    """A run of tokens without a fork.

    Attributes:
        parent: the place of the node before it, in the list of all; -1 for a first one.
        tokens: ids; at least one.
        rank: the place among the sequences that were found, best first, of the one that ends here; None if none does.
    """

    parent: int
    tokens: list[int]
    rank: int | None = None


def tree_of(found: Iterable[tuple[int, ...]], branches: Iterable[tuple[int, ...]] = ()) -> list[Node]:
    """The nodes of sequences, each after its parent.

    Args:
        found: the sequences that a method returned, best first.
        branches: others that it looked at.

    Example:
        >>> for node in tree_of([(1, 2, 3), (1, 2)], [(1, 5)]):
        ...     print(node)
        Node(parent=-1, tokens=[1], rank=None)
        Node(parent=0, tokens=[2], rank=1)
        Node(parent=1, tokens=[3], rank=0)
        Node(parent=0, tokens=[5], rank=None)
    """
    ranks: dict[tuple[int, ...], int] = {}
    for rank, tokens in enumerate(found):
        ranks.setdefault(tokens, rank)
    children: dict[tuple[int, ...], dict[int, None]] = {}
    for tokens in [*ranks, *branches]:
        for end in range(len(tokens), 0, -1):
            known = children.setdefault(tokens[: end - 1], {})
            if tokens[end - 1] in known:
                break
            known[tokens[end - 1]] = None
    return _joined(children, ranks)


def _joined(children: Mapping[tuple[int, ...], Iterable[int]], ranks: Mapping[tuple[int, ...], int]) -> list[Node]:
    """Nodes of single tokens made into nodes of runs, in depth-first order."""
    nodes: list[Node] = []
    todo: list[tuple[tuple[int, ...], int]] = [((token,), -1) for token in reversed(list(children.get((), ())))]
    while todo:
        path, parent = todo.pop()
        start = len(path) - 1
        while path not in ranks and len(following := list(children.get(path, ()))) == 1:
            path = (*path, following[0])
        nodes.append(Node(parent, list(path[start:]), ranks.get(path)))
        place = len(nodes) - 1
        todo += [((*path, token), place) for token in reversed(list(children.get(path, ())))]
    return nodes
