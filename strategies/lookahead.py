"""Lookahead decoding: n-grams from parallel guesses, verified as they come up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ovdecode.forward import Forward
from ovdecode.plugin import require
from ovdecode.proposer import continuations
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.verification import Supposed, Verifier
from ovdecode.strategy import Decoding, Stepwise, Strategy


@register("lookahead")
@dataclass(frozen=True)
class Lookahead(Strategy):
    """What another strategy would decode, from n-grams that the model's own parallel guesses leave behind.

    A window of guesses stands at the positions to come. At each of them, the guesses of the last inferences follow one
    another, and every inference adds the model's best token: an n-gram, which goes into a pool. The same inference
    verifies the n-grams in the pool that begin with the newest token, as alternatives.

    Law: exactly that of `strategy` on the same logits. The n-grams are a certain draft, verified as by `speculative`.
    Source: Fu et al. 2024, "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding"; as in their
    code, the window moves by one position an inference, whatever was accepted. They start from random tokens of the
    prompt, this from its tokens in order.

    `info` is that of `speculative`. An inference runs about window² / 2 + window · ngram tokens more, since the
    positions of the window do not share what they have in common.

    Args:
        strategy: whose law is kept; one that draws token by token.
        window: how many positions are guessed at; at least 1.
        ngram: length of the n-grams; at least 2.
        max_drafts: how many n-grams are kept for one first token, the latest ones, and verified; at least 1.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        >>> generation = model.generate([0], od.Lookahead(), max_new_tokens=12)
        >>> generation.tokens, generation.info["rounds"] < 8
        ((1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0), True)
    """

    aliases = ("lookahead_decoding",)

    commits: ClassVar[bool] = True

    strategy: Stepwise = field(default=Greedy())
    window: int = 5
    ngram: int = 4
    max_drafts: int = 5

    def __post_init__(self) -> None:
        require(self, "window", self.window >= 1, "at least 1")
        require(self, "ngram", self.ngram >= 2, "at least 2")
        require(self, "max_drafts", self.max_drafts >= 1, "at least 1")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Verify n-grams and guess on, in one inference."""
        law = replace(self.strategy, processors=self.processors | self.strategy.processors).law
        sequence, verifier = prompt, Verifier(law, stop, rng)
        pool: dict[int, dict[tuple[int, ...], None]] = defaultdict(dict)
        # rows[r][c] is a guess at the token c + r places after the newest one; each row is one inference younger.
        rows = [np.resize(prompt.tokens, self.window + self.ngram - 2).tolist()]
        while not stop(sequence):
            rows[0][0] = sequence.token
            stops = Supposed(sequence).stop(stop)
            guessed = [_guess(sequence, rows, column, stops) for column in range(len(rows[0]))]
            asked = {node: None for node in guessed if node is not None}
            drafts = reversed(pool[sequence.token])
            along = [Forward(node, draft=True) for node in asked]
            sequence, _, answers = yield from verifier.verify(sequence, continuations(drafts), along)
            best = {node: int(logits.argmax()) for node, logits in zip(asked, answers, strict=True)}
            new = [rows[-1][column] if node is None else best[node] for column, node in enumerate(guessed)]
            rows.append(new)
            if len(rows) == self.ngram:
                for first, *rest in zip(*rows, strict=True):
                    pool[first].pop(tuple(rest), None)
                    pool[first][tuple(rest)] = None
                    if len(pool[first]) > self.max_drafts:
                        del pool[first][next(iter(pool[first]))]
                del rows[0]
            else:
                rows = [row[1:] for row in rows]
        return verifier.outcome(sequence)


def _guess(sequence: Sequence, rows: list[list[int]], column: int, stop: Stop) -> Sequence | None:
    """The sequence that a column of the window stands for; None if it has a stop inside."""
    node = sequence + rows[0][1 : column + 1] + [row[column] for row in rows[1:]]
    return None if any(map(stop, node.path(sequence.length))) else node
