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
    rows = [logits] if request.last is None else logits
    nodes = request.sequence.path(request.sequence.length - request.rows)
    for place, (node, child) in enumerate(zip(nodes, [*nodes, None][1:], strict=True)):
        blocks, weights = (None if known is None else known[place] for known in (answer.blocks, answer.weights))
        node.answered(rows[place], float(answer.logsumexp[place]), blocks, weights, child)
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
