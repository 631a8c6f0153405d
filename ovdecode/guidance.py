"""Guidance: any strategy, sent other logits than the model's own."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from ovdecode.errors import DeadEnd
from ovdecode.forward import Answer, Forward, Logits
from ovdecode.numerics import logsumexp
from ovdecode.processor import LogitsProcessor
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Outcome, Request, Strategy, gather


@dataclass(frozen=True)
class Guidance(Strategy):
    """Lets another strategy decode, and combines the model's logits with other opinions before that one sees them.

    Subclass it and write `companions`, what else to ask, and `combine`, the logits for one position. It then works with
    every strategy, inside and out: each inference that the inner strategy asks for stays one inference a model, and
    whatever it asks about (the beams of a search, a draft to be verified) is combined position by position. Requests
    that name another model (a draft model, say) go through as they are.

    The log-probabilities of a result stay those of the model itself.

    Args:
        strategy: what decodes from the combined logits.
        processors: applied to the model's logits before they are combined; what they exclude stays excluded. Those of
            `strategy` are applied to the combined logits.

    Example:
        >>> import ovdecode as od
        >>> class Flipped(od.Guidance):
        ...     def companions(self, request):
        ...         return []
        ...     def combine(self, sequence, logits, others):
        ...         return -logits
        >>> model = od.Model(od.TableRunner({(): [0.0, 1.0, 2.0]}))
        >>> model.generate([0], Flipped(strategy=od.Greedy()), max_new_tokens=2).tokens
        (0, 0)
    """

    strategy: Strategy = field(kw_only=True)

    @property
    def commits(self) -> bool:
        """As the inner strategy does."""
        return self.strategy.commits

    @property
    def chain(self) -> LogitsProcessor:
        """The processors alone: those of the inner strategy see the combined logits, not the model's."""
        return self.processors

    @abstractmethod
    def companions(self, request: Forward) -> list[Forward]:
        """What to ask beside a request to the task's model.

        A companion answers for the last positions of the request, as many as its own `last`; earlier ones keep the
        model's logits. One that asks for layers brings their logits in place of its own; if it is about the same
        sequence of the same model, the two are one.

        Args:
            request: for logits after `request.sequence`, at its `last` positions.
        """

    @abstractmethod
    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """The logits to decode from after `sequence`, shape (vocab,).

        Args:
            sequence: what the position comes after.
            logits: the model's own, shape (vocab,), read-only; after the processors, -inf for what they exclude.
            others: those of the companions, each of the same shape, in their order.
        """

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Run the inner strategy; in each round ask for more than it does, and send it what that amounts to."""
        with closing(gather([self.strategy.decode(prompt, stop, rng)])) as running:
            sent: list[Logits | Answer] | None = None
            while True:
                try:
                    wanted = [_forward(request) for request in running.send(sent)]
                except StopIteration as finished:
                    (result,) = finished.value
                    return cast(Sequence | Outcome, result)
                asked = [self._asked(request) for request in wanted]
                answers = iter((yield [each for requests in asked for each in requests]))
                sent = [
                    self._sent(request, requests, [next(answers) for _ in requests])
                    for request, requests in zip(wanted, asked, strict=True)
                ]

    def _asked(self, request: Forward) -> list[Forward]:
        """The request and its companions, without the request where a companion asks for the same and more."""
        if not request.own:
            return [request]
        companions = self.companions(request)
        fuller = [each for each in companions if request.plain and _own(each, request) and not each.plain]
        others = [replace(each, draft=each not in fuller or request.draft) for each in companions]
        return others if fuller else [request, *others]

    def _sent(self, request: Forward, asked: list[Forward], answers: list[Logits | Answer]) -> Logits | Answer:
        """What the inner strategy is sent for a request."""
        if not request.own:
            return answers[0]
        own = next(answer for each, answer in zip(asked, answers, strict=True) if _own(each, request))
        others = [
            rows
            for each, answer in zip(asked, answers, strict=True)
            if each is not request
            for rows in _opinions(answer)
        ]  # each of shape (rows, vocab)
        logits = _rows(own)
        combined = logits.copy()
        covered = min(map(len, [logits, *others]))
        nodes = request.sequence.path(request.sequence.length - covered)
        for place in range(-covered, 0):
            combined[place] = self._combined(nodes[place], logits[place], [rows[place] for rows in others])
        combined.flags.writeable = False
        if isinstance(own, Answer) and not request.plain:
            sums = np.array([logsumexp(row) for row in combined], np.float32)
            return Answer(combined, sums, own.hidden, own.layers)
        return combined if request.last is not None else cast(Logits, combined[0])

    def _combined(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """As `combine`, after the processors."""
        try:
            candidates = self.candidates(logits, sequence)
            candidates.peak  # noqa: B018  raises if no token is left
        except DeadEnd:
            # There is nothing to combine; the inner strategy is to find out for itself, and drop a beam, say.
            return np.full_like(logits, -np.inf)
        possible = candidates.spread(len(logits))
        combined = self.combine(sequence, possible, others)
        return np.where(possible == -np.inf, -np.inf, combined) if self.processors.stages else combined


def _forward(request: Request) -> Forward:
    return Forward(request) if isinstance(request, Sequence) else request


def _own(each: Forward, request: Forward) -> bool:
    """Whether it asks the task's model about the positions of `request`."""
    return each.own and each.sequence is request.sequence and each.rows == request.rows


def _rows(answer: Logits | Answer) -> Logits:
    """The logits of an answer, shape (rows, vocab)."""
    return answer.logits if isinstance(answer, Answer) else np.atleast_2d(answer)


def _opinions(answer: Logits | Answer) -> list[Logits]:
    """What a companion's answer says: its logits, or those of the layers that it asked for."""
    return list(answer.layers.values()) if isinstance(answer, Answer) and answer.layers else [_rows(answer)]
