"""What answers tell about the token tree."""

from __future__ import annotations

import sys
from typing import cast

from ovdecode.errors import LogitsError
from ovdecode.forward import Answer, Forward, Logits
from ovdecode.sequence import Sequence


def check_answer(request: Forward, answer: Answer) -> None:
    """Refuse what is no distribution, whichever model said it.

    Raises:
        LogitsError: for a NaN, an infinity, or no token that is possible.
    """
    for row, logsumexp in enumerate(answer.logsumexp.tolist()):
        if not -sys.float_info.max < logsumexp < sys.float_info.max:
            node = request.sequence[: request.sequence.length - request.rows + 1 + row]
            model = "the model" if request.model is None else repr(request.model)
            raise LogitsError(
                f"{model} must give logits with a finite maximum after {node!r}, but their log-sum-exp is {logsumexp}"
            )


def note_answer(request: Forward, answer: Answer, logits: Logits) -> list[Sequence]:
    """Note on the tree what the task's own model said, and return the nodes that now hold logits.

    Args:
        request: what was asked.
        answer: what was said.
        logits: the very array that the strategy is sent, shape (vocab,), or (last, vocab) if the request has a `last`.
    """
    sequence = request.sequence
    if request.last is None:
        blocks = None if answer.blocks is None else answer.blocks[0]
        sequence.answered(logits, float(answer.logsumexp[0]), blocks)
        return [sequence]
    nodes = sequence.path(sequence.length - request.rows)
    blocks = [None] * len(nodes) if answer.blocks is None else answer.blocks
    told = zip(nodes, logits, answer.logsumexp.tolist(), blocks, [*nodes, None][1:], strict=True)
    for node, row, logsumexp, each, child in told:
        node.answered(row, logsumexp, each, child)
    return nodes


def common_ancestor(nodes: list[Sequence]) -> Sequence:
    """The longest sequence that all of them begin with."""
    common = nodes[0]
    for node in nodes[1:]:
        length = min(common.length, node.length)
        common, node = common[:length], node[:length]
        while common is not node:
            common, node = cast(Sequence, common.parent), cast(Sequence, node.parent)
    return common
