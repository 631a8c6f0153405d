"""Contrastive search."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovdecode.forward import Answer, Forward, Logits
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Strategy

_PIECE = 128
"""How many tokens of the prompt are asked about at once: their logits, which nobody needs, are all in memory."""


@register("contrastive_search")
@dataclass(frozen=True)
class ContrastiveSearch(Strategy):
    """The probable token that least resembles what has been said; no randomness is used.

    Law: of the `top_k` most probable tokens, the one with the highest (1 − penalty_alpha) · p − penalty_alpha
    · s; the lowest id among equals. p is its probability after the processors, and s the largest cosine
    similarity of its hidden state, once it is appended, to that of a token before it, prompt included. The
    hidden state is the one that enters the LM head.
    Source: Su et al. 2022, "A Contrastive Framework for Neural Text Generation" (arXiv:2202.06417); names
    and defaults of the parameters as in transformers' examples.

    All candidates of a step are looked ahead in one batch, and the answer for the one that is chosen serves
    the next step: one inference a token, and one that reads the prompt (for every 128 tokens of it).

    Args:
        penalty_alpha: weight of the similarity; from 0, which is greedy decoding, to 1.
        top_k: how many candidates are compared; at least 1.

    Example:
        >>> import ovdecode as od
        >>> hidden = lambda tokens: [[1, 0], [0, 1], [1, 1]][tokens[-1]]
        >>> model = od.Model(od.TableRunner({(): [2.0, 1.0, 1.5]}, hidden=hidden))
        >>> model.generate([0], od.ContrastiveSearch(), max_new_tokens=2).tokens
        (1, 2)
    """

    aliases = ("penalty_alpha",)

    commits: ClassVar[bool] = True

    penalty_alpha: float = 0.6
    top_k: int = 4

    def __post_init__(self) -> None:
        require(self, "penalty_alpha", 0 <= self.penalty_alpha <= 1, "between 0 and 1")
        require(self, "top_k", self.top_k >= 1, "at least 1")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Look all candidates ahead, go on with the best one."""
        sequence = prompt
        if stop(sequence):
            return sequence
        context, logits = yield from _read(prompt)
        while not stop(sequence):
            candidates = self.candidates(logits, sequence)
            best = candidates.top(self.top_k).possible
            probabilities = np.exp(best.logits - candidates.logsumexp)  # (candidates,)
            ahead = [sequence + token for token in best.ids]
            # Several show by what they share how much is decided; one alone shows it by the position before its end.
            answers = yield [Forward(each, last=1 if len(ahead) > 1 else 2, hidden=True) for each in ahead]
            states = np.concatenate([_directions(answer)[-1:] for answer in answers])  # (candidates, hidden)
            similarity = (states @ context.T).max(axis=1)
            chosen = int(((1 - self.penalty_alpha) * probabilities - self.penalty_alpha * similarity).argmax())
            sequence, logits = ahead[chosen], answers[chosen].logits[-1]
            context = np.concatenate([context, states[chosen : chosen + 1]])  # (tokens, hidden)
        return sequence


def _read(prompt: Sequence) -> Generator[Forward, Any, tuple[NDArray[np.float32], Logits]]:
    """The direction of every hidden state of the prompt, (tokens, hidden), and the logits after it, (vocab,)."""
    states = []
    for begin in range(0, prompt.length, _PIECE):
        piece = prompt[: begin + _PIECE]
        answer = yield Forward(piece, last=piece.length - begin, hidden=True)
        states.append(_directions(answer))
    return np.concatenate(states), answer.logits[-1]


def _directions(answer: Answer) -> NDArray[np.float32]:
    """Its hidden states at length 1, shape (rows, hidden); a state of zeros stays so, and resembles nothing."""
    assert answer.hidden is not None
    lengths = np.linalg.norm(answer.hidden, axis=1, keepdims=True)  # (rows, 1)
    directions: NDArray[np.float32] = answer.hidden / np.maximum(lengths, np.finfo(lengths.dtype).tiny)
    return directions
