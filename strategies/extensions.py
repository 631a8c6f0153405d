"""The pieces of searches: next tokens, the sequences that they lead to, and the best finished ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.errors import DeadEnd
from ovdecode.forward import Logits
from ovdecode.numerics import logsumexp
from ovdecode.plugin import Plugin, is_whole, require
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop, StoppingCriterion
from ovdecode.strategy import Hypothesis, Outcome, Strategy

Formula = Literal["length", "gnmt"]


class Finished:
    """The best finished sequences, at most `size` of them, best first; equals in the order in which they came."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.hypotheses: list[Hypothesis] = []

    def add(self, hypotheses: Iterable[Hypothesis]) -> None:
        """Take in what is good enough."""
        ranked = sorted([*self.hypotheses, *hypotheses], key=lambda each: -each.score)
        self.hypotheses = ranked[: self.size]

    @property
    def full(self) -> bool:
        """Whether there are as many as wanted."""
        return len(self.hypotheses) == self.size

    @property
    def worst(self) -> float:
        """The score to beat; minus infinity while there is room."""
        return self.hypotheses[-1].score if self.full else -math.inf

    def outcome(self, strategy: Strategy, count: int, info: dict[str, float] | None = None) -> Outcome:
        """The best `count`, as what the strategy returns.

        Raises:
            DeadEnd: if nothing has been finished.
        """
        if not self.hypotheses:
            raise DeadEnd(f"the processors of `{strategy.name}` leave no token possible in any of its beams")
        return Outcome(tuple(self.hypotheses[:count]), info or {})


class Extensions:
    """Sequences that are one token longer, without being made before they are asked for.

    Args:
        beams: what is extended.
        origins: of each extension, which beam, shape (extensions,), rising.
        ids: its token, shape (extensions,), rising within a beam.
        sums: the beam's score and the token's log-probability, shape (extensions,).
    """

    def __init__(
        self, beams: Items[Hypothesis], origins: NDArray[np.intp], ids: NDArray[np.intp], sums: NDArray[np.float64]
    ) -> None:
        self.beams, self.origins, self.ids, self.sums = beams, origins, ids, sums

    @classmethod
    def by(cls, beams: Items[Hypothesis], tokens: Items[Candidates]) -> Extensions:
        """All of each beam by its tokens."""
        return cls(
            beams,
            np.repeat(np.arange(len(beams)), [len(each) for each in tokens]),
            np.concatenate([each.ids for each in tokens]),
            np.concatenate(
                [beam.score + each.logits.astype(np.float64) for beam, each in zip(beams, tokens, strict=True)]
            ),
        )

    def __getitem__(self, index: int) -> Hypothesis:
        return Hypothesis(self.beams[self.origins[index]].sequence + self.ids[index], float(self.sums[index]))

    def best(self, count: int | None = None) -> Iterator[Hypothesis]:
        """The `count` best (None for all), best first.

        They are among the `count` best tokens of each beam, so it is enough to know those.
        """
        return map(self.__getitem__, self.ranked()[:count])

    def ranked(self) -> list[int]:
        """The index of each, best first; ties go to the first beam, then to the lower token."""
        ranked: list[int] = np.argsort(-self.sums, kind="stable").tolist()
        return ranked


def likeliest(strategy: Strategy, beams: Items[Hypothesis], rows: Items[Logits], count: int) -> Extensions:
    """Extensions of beams, given the logits after each: the `count` best, and perhaps others."""
    told = [beam.sequence.told(logits) for beam, logits in zip(beams, rows, strict=True)]
    known = [each.blocks[0] for each in told if each is not None and each.blocks is not None]
    if strategy.processors.stages or len(known) < len(beams) or len(known[0]) < count:
        pairs = zip(beams, rows, strict=True)
        return Extensions.by(beams, [next_tokens(strategy, logits, beam.sequence, count) for beam, logits in pairs])
    # The model's own logits need no further look than at the blocks in which the best can be.
    totals = np.array(
        [beam.sequence.logsumexp_of(logits) for beam, logits in zip(beams, rows, strict=True)], rows[0].dtype
    )
    scores = np.array([beam.score for beam in beams])
    largest = (scores[:, None] + (np.array(known) - totals[:, None])).ravel()  # (beams * blocks,)
    bound = np.partition(largest, -count)[-count]
    origins, blocks = np.divmod((largest >= bound).nonzero()[0], len(known[0]))
    size = len(rows[0]) // len(known[0])
    near = np.array([rows[beam][block : block + size] for beam, block in zip(origins, blocks * size, strict=True)])
    sums = (scores[origins, None] + (near - totals[origins, None])).ravel()
    best = ((sums >= bound) & (sums > -np.inf)).nonzero()[0]
    place, token = np.divmod(best, size)
    return Extensions(beams, origins[place], blocks[place] * size + token, sums[best])


def next_tokens(
    strategy: Strategy, logits: Logits, sequence: Sequence, count: int | None = None, also: Iterable[int] = ()
) -> Candidates:
    """The `count` best possible next tokens of one beam (None for all) and some others, with log-probabilities as the
    processors leave them: they are not normalised again. None at a dead end, whichever processor comes to it."""
    try:
        candidates, total = Candidates.after(sequence, logits), sequence.logsumexp_of(logits)
        candidates.peak  # noqa: B018  raises if no token is possible
        total = logsumexp(logits) if total is None else total
        if not strategy.processors.stages:  # the fewer, the less to shift
            return _best(candidates, count, also).shifted(-total)
        return _best(strategy.processors(candidates.shifted(-total), sequence), count, also)
    except DeadEnd:
        return _NONE


def normalized(strategy: Strategy, logits: Logits, sequence: Sequence, count: int | None = None) -> Candidates:
    """The `count` best possible next tokens (None for all), with the logs of the probabilities that the processors
    leave them; none at a dead end.

    Unlike those of `next_tokens` they are normalised, so none is above 0: a sequence never gains by growing.
    """
    try:
        found = strategy.candidates(logits, sequence)
        best = _best(found, count)
    except DeadEnd:
        return _NONE
    return best.with_logits(np.minimum(best.logits.astype(np.float64) - found.logsumexp, 0.0))


def _best(candidates: Candidates, count: int | None, also: Iterable[int] = ()) -> Candidates:
    if count is None:
        return candidates.possible
    best, others = candidates.top(count), np.array(sorted(also), np.intp)
    return (candidates.only(np.union1d(best.ids, others)) if len(others) else best).possible


_NONE = Candidates(np.empty(0, np.float32), np.empty(0, np.intp))


def final_score(total: float, length: float, length_penalty: float, formula: Formula = "length") -> float:
    """A sum of log-probabilities, made comparable between lengths."""
    base = length if formula == "length" else (5 + length) / 6
    return float(total / base**length_penalty)


def length_bound(stop: Stop, prompt: Sequence) -> int | None:
    """The most tokens that the stop allows after the prompt, if it has such a bound."""
    return stop.bound(prompt) if isinstance(stop, StoppingCriterion) else None


def require_positive(plugin: Plugin, *parameters: str) -> None:
    """Make sure that parameters are whole numbers of at least 1."""
    for parameter in parameters:
        value = getattr(plugin, parameter)
        require(plugin, parameter, is_whole(value) and value >= 1, "a whole number of at least 1")
