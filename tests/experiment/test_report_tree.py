"""The tree of what a method looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovdecode.experiment.report.tree import Node, tree_of

sequences = st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), max_size=8)


def spelled(nodes: list[Node]) -> list[tuple[int, ...]]:
    """The tokens from the beginning to the end of each node."""
    paths: list[tuple[int, ...]] = []
    for node in nodes:
        paths.append((paths[node.parent] if node.parent >= 0 else ()) + tuple(node.tokens))
    return paths


def test_shared_beginnings_are_drawn_once() -> None:
    nodes = tree_of([(1, 2, 3, 4), (1, 2, 5)], [(7,), (1, 2, 5, 6, 6)])
    assert nodes == [
        Node(-1, [1, 2]),
        Node(0, [3, 4], rank=0),
        Node(0, [5], rank=1),
        Node(2, [6, 6]),
        Node(-1, [7]),
    ]


def test_a_sequence_found_twice_has_the_better_rank() -> None:
    assert tree_of([(1,), (2,), (1,)]) == [Node(-1, [1], rank=0), Node(-1, [2], rank=1)]


def test_nothing_is_an_empty_tree() -> None:
    assert tree_of([]) == tree_of([()]) == []


@given(sequences, sequences)
def test_every_sequence_is_in_it_and_nothing_else(
    found: list[tuple[int, ...]], branches: list[tuple[int, ...]]
) -> None:
    nodes = tree_of(found, branches)
    given_ = {tokens[:end] for tokens in found + branches for end in range(1, len(tokens) + 1)}
    paths = spelled(nodes)
    assert {path[:end] for path in paths for end in range(1, len(path) + 1)} == given_
    assert len(set(paths)) == len(paths)
    ranked = {path: node.rank for path, node in zip(paths, nodes, strict=True) if node.rank is not None}
    assert ranked == {tokens: found.index(tokens) for tokens in set(found) if tokens}
    for place, node in enumerate(nodes):  # each comes after its parent, and no run could be joined with the next
        assert node.parent < place
        children = [other for other in nodes if other.parent == place]
        assert len(children) != 1 or node.rank is not None
