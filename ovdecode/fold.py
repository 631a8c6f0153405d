"""State that follows the token tree: computed once for each node, and forked wherever the tree forks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ovdecode.sequence import Sequence

State = TypeVar("State")


class Fold(Generic[State]):
    """State that depends on the tokens alone: a left fold over the tree, remembered on its nodes.

    Because each node has its own, the state of one beam, particle or draft can't leak into its sibling.
    A state must be treated as immutable: `step` returns the next one and leaves the one it got as it was.

    Args:
        initial: the state before the first token.
        step: called as `step(state, sequence)` for every token; `sequence.token` is the one just added.
        generated: start after the prompt, not at its first token.
        key: folds with equal keys share what they remember; by default each fold is its own.

    Example:
        >>> from ovdecode.vocabulary import Vocabulary
        >>> total = Fold(0, lambda state, sequence: state + sequence.token)
        >>> total(Vocabulary(10).prompt([1, 2]) + 3)
        6
    """

    def __init__(
        self,
        initial: State,
        step: Callable[[State, Sequence], State],
        *,
        generated: bool = False,
        key: Hashable | None = None,
    ) -> None:
        self.initial, self.step, self.generated = initial, step, generated
        self.key: Hashable = self if key is None else key

    def __call__(self, sequence: Sequence) -> State:
        """The state after the last token of a sequence."""
        start = sequence.prompt_length if self.generated else 0
        todo: list[Sequence] = []
        node = sequence
        while node.length > start and (node._memo is None or self.key not in node._memo):
            todo.append(node)
            assert node.parent is not None
            node = node.parent
        state: State = self.initial
        if node.length > start:
            assert node._memo is not None
            state = node._memo[self.key]
        for node in reversed(todo):
            state = self.step(state, node)
            if node._memo is None:
                node._memo = {}
            node._memo[self.key] = state
        return state
