"""Verification of drafts: one inference for a whole tree of tokens, and a law that no draft changes.

What is kept has exactly the law of plain decoding. Of the alternatives x1, x2, ... for one token, x1 drawn from q1 is
kept with probability min(1, p(x1) / q1(x1)). If it is not, p becomes (p − q1)+, normalised, and x2 is tried with that,
and so on; when all are rejected, the token is drawn from what p has become. Each q may depend on the alternatives
before its own: so draws with replacement (the same q), without (q without those before) and choices that are certain
are all the same rule.

Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding", for a chain; Miao
et al. 2024, "SpecInfer: Accelerating Large Language Model Serving with Tree-based Speculative Inference and
Verification", for a tree with replacement; Jeon et al. 2024, "Recursive Speculative Decoding: Accelerating LLM
Inference via Sampling Without Replacement".
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.forward import Forward, Logits
from ovdecode.numerics import Floats
from ovdecode.proposer import Draft, Drafted, Law
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop, StopReason
from ovdecode.strategy import Hypothesis, Outcome, Request
from ovdecode.text import owed, spells


class Round(NamedTuple):
    """What one inference decided.

    Attributes:
        sequence: with the accepted tokens, and one more.
        logits: the model's logits after each sequence of the draft.
        answers: to the requests that went along.
    """

    sequence: Sequence
    logits: dict[Sequence, Logits]
    answers: list[Any]


class Supposed:
    """What is only supposed to follow a sequence, as a stop and a law are to see it: apart from what others decode.

    What does not spell what a reopened prompt lacks can't come to be: there a supposition ends, and nothing is asked.

    Args:
        sequence: what is decided.
    """

    def __init__(self, sequence: Sequence) -> None:
        self._decided, self._apart = sequence, {sequence: sequence.apart()}
        self._owes = bool(owed(sequence))

    def __call__(self, sequence: Sequence) -> Sequence:
        """A sequence that begins with what is decided, apart; any other as it is."""
        if sequence.parent is None or sequence.length < self._decided.length:
            return sequence
        found = self._apart.get(sequence)
        if found is None:
            found = self._apart[sequence] = self(sequence.parent) + sequence.token
        return found

    def law(self, law: Law) -> Law:
        """A law that sees a sequence apart."""
        return lambda logits, sequence: law(logits, self(sequence))

    def stop(self, stop: Stop) -> Stop:
        """A stop that sees a sequence apart."""

        def stops(sequence: Sequence) -> StopReason | None:
            apart = self(sequence)
            if self._owes and not spells(apart):
                return StopReason("misspelled")
            return stop(apart)

        return stops


@dataclass
class Verifier:
    """Verifies drafts round by round, and counts.

    Args:
        law: what each token must have been drawn from.
        stop: truthy for a finished sequence; nothing is asked beyond one.
        rng: the only source of randomness.
    """

    law: Law
    stop: Stop
    rng: Random
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0

    def verify(
        self, sequence: Sequence, draft: Draft, along: Iterable[Request] = ()
    ) -> Generator[list[Request], Any, Round]:
        """Extend a sequence by what is accepted of a draft and one token more: `yield from verifier.verify(...)`.

        Args:
            sequence: what is decided; not finished.
            draft: what may come after it.
            along: further requests for the same inference.
        """
        paths = self._paths(sequence, draft)
        answers = yield [*(Forward(path[-1], last=len(path)) for path in paths), *along]
        rows = [row for answer in answers[: len(paths)] for row in answer]
        logits = dict(zip(chain.from_iterable(paths), rows, strict=True))
        self.rounds += 1
        while True:
            token, kept = choose(self.law(logits[sequence], sequence), draft, self.rng)
            sequence += token
            self.accepted += kept is not None
            # A draft is judged without the probability of its tokens, by which a stop may judge what is accepted.
            if kept is None or sequence not in logits or self.stop(sequence):
                return Round(sequence, logits, answers[len(paths) :])
            draft = kept.then

    def outcome(self, sequence: Sequence) -> Outcome:
        """The finished sequence with the counts of all rounds."""
        info = {
            "rounds": self.rounds,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "acceptance": self.accepted / max(self.drafted, 1),
        }
        return Outcome((Hypothesis(sequence, sequence.logprob),), info)

    def _paths(self, sequence: Sequence, draft: Draft) -> list[list[Sequence]]:
        """Every sequence after which the model is asked, once: paths down the tree, each from where it branches off."""
        paths: list[list[Sequence]] = []
        stops = Supposed(sequence).stop(self.stop)
        seen = set[Sequence]()
        waiting = [(sequence, draft)]
        while waiting:
            node, alternatives = waiting.pop()
            if node not in seen:
                seen.add(node)
                if paths and paths[-1][-1] is node.parent:
                    paths[-1].append(node)
                else:
                    paths.append([node])
            self.drafted += len(alternatives)
            for each in reversed(alternatives):
                child = node + each.token
                if not stops(child):
                    waiting.append((child, each.then))
        return paths


def choose(target: Candidates, alternatives: Draft, rng: Random) -> tuple[int, Drafted | None]:
    """A token with the law of `target`, and which of the alternatives it is."""
    if len(target) == 1:
        token = target.argmax()
        return token, next((each for each in alternatives if each.token == token), None)
    if not alternatives:
        return target.draw(rng), None
    weights = target.probabilities
    for each in alternatives:
        place = target.positions(np.array([each.token]))
        share = float(weights[place].sum())
        if rng.flip(min(1.0, share / each.probability)):
            return each.token, each
        weights = _rest(weights, each.probabilities_of(target.ids))
    return int(target.ids[rng.choose(weights)]), None


def _rest(target: Floats, draft: Floats) -> Floats:
    """The part of a distribution that a rejected one does not cover, normalised; both of shape (n,)."""
    rest = np.maximum(target - draft, 0.0, dtype=np.float64)
    total = rest.sum()
    # Equal up to rounding, the two may leave nothing over; there is then nothing to correct either.
    return rest / total if total > 0 else target
