"""Beam search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, Literal

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.errors import LogitsError
from ovdecode.forward import Logits
from ovdecode.numerics import log_softmax, logsumexp
from ovdecode.plugin import is_whole, require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop, StoppingCriterion
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy


@register("beam")
@dataclass(frozen=True)
class BeamSearch(Strategy):
    """The best sequences that a search of bounded width finds; no randomness is used.

    Law: each round extends every running beam by every token and ranks the extensions by their summed
    log-probability. Of the best `num_beams`, those that the stop ends are finished, with the score
    sum / generated_length ** length_penalty; the best `num_beams` of the others run on. The best finished
    ones are kept, `num_beams` of them, until all running beams are stopped or nothing better is to be
    expected.
    Source: Lowerre 1976, "The Harpy Speech Recognition System"; scores and stopping rules as in
    transformers 5 (`GenerationMixin._beam_search`), which openvino.genai shares (its `EARLY`, `HEURISTIC`,
    `NEVER` are True, False, "never" here).

    As in transformers, processors work on log-probabilities, and what they leave is not normalised again. A
    beam for which they leave no token is dropped.

    Args:
        num_beams: width of the search; at least 1. One beam is greedy decoding.
        length_penalty: the exponent of the length; above 0 favours long sequences, 0 compares plain sums.
        early_stopping: when to end once `num_beams` sequences are finished. True: at once. False: when the
            best running beam, scored at its present length, would not enter them. "never": when it would not
            even at the length that favours it most (with a length penalty above 0, the longest that the stop
            allows).
        num_return_sequences: how many of the finished sequences are returned; at most `num_beams`.

    Example:
        >>> import ovdecode as od
        >>> rows = {(0,): [-9, 5, 5.1, -9], (1,): [-9, -9, -9, 9], (): [0, 0, 0, 0]}
        >>> model = od.Model(od.TableRunner(rows))
        >>> model.generate([0], od.Greedy(), max_new_tokens=2).tokens
        (2, 0)
        >>> model.generate([0], od.BeamSearch(num_beams=2), max_new_tokens=2).tokens
        (1, 3)
    """

    commits: ClassVar[bool] = False

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        positive = is_whole(self.num_beams) and self.num_beams >= 1
        require(self, "num_beams", positive, "a whole number of at least 1")
        finite = isinstance(self.length_penalty, Real) and math.isfinite(self.length_penalty)
        require(self, "length_penalty", finite, "a finite number")
        known = isinstance(self.early_stopping, bool) or self.early_stopping == "never"
        require(self, "early_stopping", known, 'true, false or "never"')
        count = self.num_return_sequences
        fits = is_whole(count) and 1 <= count <= self.num_beams
        require(self, "num_return_sequences", fits, f"between 1 and `num_beams`, which is {self.num_beams}")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend all beams, set aside what is finished, go on with the best of the rest."""
        if stop(prompt):
            return prompt
        bound = stop.bound(prompt) if isinstance(stop, StoppingCriterion) else None
        width = max(2, 1 + len(prompt.vocabulary.eos_token_ids)) * self.num_beams
        running, finished = [Hypothesis(prompt, 0.0)], list[Hypothesis]()
        while running and self._may_improve(running[0], finished, prompt, bound):
            rows = yield [beam.sequence for beam in running]
            extensions = self._extensions(running, rows, width)
            running, ended = [], []
            for rank, (sequence, score) in enumerate(extensions):
                if len(running) == self.num_beams:
                    break
                if not stop(sequence):
                    running.append(Hypothesis(sequence, score))
                elif rank < self.num_beams:
                    ended.append(Hypothesis(sequence, self._final(score, sequence.length - prompt.length)))
            finished = sorted(finished + ended, key=lambda each: -each.score)[: self.num_beams]
        if not finished:
            raise LogitsError("the processors of `beam` leave no token possible in any of its beams")
        return Outcome(tuple(finished[: self.num_return_sequences]))

    def _extensions(self, beams: list[Hypothesis], rows: list[Logits], width: int) -> Iterator[tuple[Sequence, float]]:
        """The `width` best sequences that are one token longer, best first, with their summed
        log-probabilities.

        The best of all are among the best of each, so no row is sorted and the rows are never joined.
        """
        best = [self._best(logits, beam.sequence, width) for beam, logits in zip(beams, rows, strict=True)]
        scores = np.concatenate(  # (candidates of all beams,)
            [beam.score + each.logits.astype(np.float64) for beam, each in zip(beams, best, strict=True)]
        )
        tokens = np.concatenate([each.ids for each in best])
        origins = np.repeat(np.arange(len(beams)), [len(each) for each in best])
        for index in np.argsort(-scores, kind="stable")[:width]:
            if scores[index] > -np.inf:
                yield beams[origins[index]].sequence + tokens[index], float(scores[index])

    def _best(self, logits: Logits, sequence: Sequence, width: int) -> Candidates:
        """The `width` best next tokens of one beam, with their processed log-probabilities."""
        if self.processors.stages:
            return self.candidates(log_softmax(logits), sequence).top(width)
        best = Candidates(logits).top(width)
        return best.with_logits(best.logits - logsumexp(logits))

    def _final(self, score: float, length: float) -> float:
        return float(score / length**self.length_penalty)

    def _may_improve(self, best: Hypothesis, finished: list[Hypothesis], prompt: Sequence, bound: int | None) -> bool:
        """Whether the best running beam may still enter the finished ones."""
        if len(finished) < self.num_beams:
            return True
        if self.early_stopping is True:
            return False
        length: float = best.sequence.length - prompt.length
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = math.inf if bound is None else bound
        return self._final(best.score, length) > finished[-1].score
