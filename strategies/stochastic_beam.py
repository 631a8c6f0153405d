"""Stochastic beam search: sequences sampled without replacement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import nlargest
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import ClassVar, NamedTuple

import numpy as np

from ovdecode.errors import DeadEnd
from ovdecode.numerics import Floats
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.extensions import require_positive
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy


class Perturbed(NamedTuple):
    """A sequence, complete or not, with its log-probability and that plus Gumbel noise."""

    sequence: Sequence
    logprob: float
    perturbed: float
    complete: bool


@register("stochastic_beam")
@dataclass(frozen=True)
class StochasticBeamSearch(Strategy):
    """Different sequences, drawn one after another without replacement, by a beam search over noisy sums.

    Law: with p the distribution of sampling (the processed logits, normalised, at each step), the first
    sequence has the law p, and each further one has the law p among those not yet drawn. The search keeps the
    num_beams + 1 largest perturbed log-probabilities G = log p(prefix) + Gumbel noise, where the largest G of
    a prefix's extensions is that of the prefix.
    Source: Kool, van Hoof, Welling 2019, "Stochastic Beams and Where to Find Them: The Gumbel-Top-k Trick for
    Sampling Sequences Without Replacement" (arXiv:1903.06059). They let the empty prefix have G = 0, which
    leaves the order as it is; here its noise is drawn too, as the weights below demand.

    A hypothesis's score is its G. `info` has what estimates need: `threshold`, the largest G left out (minus
    infinity if nothing is); for the i-th sequence `logprob_i`, log p; `inclusion_i`, the probability that its
    G exceeds the threshold, 1 − exp(−exp(log p − threshold)); and `log_weight_i`, log of p / inclusion. The
    sum of exp(log_weight_i) · f(sequence_i) is an unbiased estimate of the mean of f under p.

    Args:
        num_beams: how many sequences; at least 1. There are fewer if no more are possible.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): [2.0, 1.0]}))
        >>> generation = model.generate([0], od.StochasticBeamSearch(4), max_new_tokens=2)
        >>> sorted(each.tokens for each in generation.alternatives)
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """

    commits: ClassVar[bool] = False

    num_beams: int = 4

    def __post_init__(self) -> None:
        require_positive(self, "num_beams")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend the prefixes, give their noise to the extensions, keep the largest."""
        beams = [Perturbed(prompt, 0.0, float(rng.gumbel(1)[0]), bool(stop(prompt)))]
        while running := [beam for beam in beams if not beam.complete]:
            rows = yield [beam.sequence for beam in running]
            grown = list[tuple[float, float, Perturbed, int]]()
            for beam, logits in zip(running, rows, strict=True):
                try:
                    tokens = self.candidates(logits, beam.sequence)
                    best, free = rng.gumbel_noise().largest(tokens, self.num_beams + 1)
                except DeadEnd:
                    continue
                logprobs = beam.logprob + np.minimum(tokens.logits[best].astype(np.float64) - tokens.logsumexp, 0.0)
                noisy = given_maximum(free + (beam.logprob - tokens.logsumexp), beam.perturbed)
                ids = tokens.tokens(best)
                grown += zip(noisy.tolist(), logprobs.tolist(), repeat(beam), ids.tolist(), strict=False)
            found = [beam for beam in beams if beam.complete]
            for perturbed, logprob, beam, token in nlargest(self.num_beams + 1, grown, key=itemgetter(0)):
                sequence = beam.sequence + token
                found.append(Perturbed(sequence, logprob, perturbed, bool(stop(sequence))))
            beams = nlargest(self.num_beams + 1, found, key=attrgetter("perturbed"))
        if not beams:
            raise DeadEnd("the processors of `stochastic_beam` leave no token possible in any of its beams")
        threshold = beams[self.num_beams].perturbed if len(beams) > self.num_beams else -math.inf
        kept = beams[: self.num_beams]
        info = {"threshold": threshold}
        for index, beam in enumerate(kept):
            info[f"logprob_{index}"] = beam.logprob
            included = log_inclusion(beam.logprob, threshold)
            info[f"inclusion_{index}"] = math.exp(included)
            info[f"log_weight_{index}"] = beam.logprob - included
        return Outcome(tuple(Hypothesis(beam.sequence, beam.perturbed) for beam in kept), info)


def log_inclusion(logprob: float, threshold: float) -> float:
    """Log of the probability that a log-probability plus standard Gumbel noise exceeds a threshold."""
    excess = min(logprob - threshold, 700.0)  # beyond, the probability is 1, and exp would overflow
    if excess < -40:  # of a long text; the probability is exp(excess) to all digits, and may be too small for a number
        return excess
    return math.log(-math.expm1(-math.exp(excess)))


def given_maximum(free: Floats, maximum: float) -> Floats:
    """Independent Gumbel variates, shape (n,), the largest first, changed to what they are if it is `maximum`.

    Each depends on itself and the largest alone, and they keep their order: so those that are left out may be any. In
    the numerically stable form of the paper's appendix.
    """
    with np.errstate(divide="ignore"):  # the largest itself has log(0)
        v = maximum - free + np.log(-np.expm1(free - free[0]))
    found: Floats = maximum - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v)))
    return found
