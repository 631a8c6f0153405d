"""Sequential Monte Carlo: particles weighted so that they stand for a target over whole texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, log
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.errors import DeadEnd, StrategyError
from ovdecode.forward import Logits
from ovdecode.numerics import logsumexp
from ovdecode.plugin import one_of, require
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.resampling import Resampling, resample
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy

ROUNDING = 1e-9
"""By so much may the effective sample size of equal weights seem to fall below their number."""


@dataclass(frozen=True)
class Particle:
    """A sequence, the logs of its weight and of its potential, and whether it goes on."""

    sequence: Sequence
    log_weight: float
    potential: float
    running: bool


@register("smc")
@dataclass(frozen=True)
class Smc(Strategy):
    """Weighted samples of whole texts from the model times a potential, where other methods are right token by token.

    Law: the target is proportional to p(x) Φ(x) over finished sequences x, p being what plain sampling gives.
    Φ(x) = Π exp(l'(t) − l(t)) over the tokens t of x, times exp(potential(x)), where l are the model's
    log-probabilities at that place and l' what `processors` make of them, not normalised again (as in beam
    search, whose score is log p(x) Φ(x)); Φ is 0 where they remove a token. So a constraint gives the model
    conditioned on whole texts that keep it, a bias b on a token counts e^b each time, and temperature T gives
    p(x)^(1/T), normalised over whole texts.
    A particle is extended by a draw from softmax(l'); its weight is multiplied by Σ exp(l'), the mass that
    the processors left, and by the growth of the potential. Then for every function f of a text, with
    or without resampling, the mean of (1/N) Σ w_i f(x_i) is Σ p(x) Φ(x) f(x); with f = 1, the mean of the
    estimated normaliser Ẑ = (1/N) Σ w_i is the true one. This holds for any `proposal`.
    Source: Lew, Zhi-Xuan, Grand, Mansinghka 2023, "Sequential Monte Carlo Steering of Large Language Models
    using Probabilistic Programs", arXiv:2306.03081; Loula et al. 2025, "Syntactic and Semantic Control of
    Large Language Models via Sequential Monte Carlo", arXiv:2504.13139 (genlm-control).

    The hypotheses are the particles, the heaviest first, scored by the log of their normalised weights w_i / Σ w:
    a sample of the target is one drawn with these. Those of weight 0 are left out. The result's `info` has
    the `log_normalizer` log Ẑ, the `resamplings`, and the effective sample size `ess` of the result.

    Args:
        num_particles: N; at least 1. With 1, it is plain sampling from what the processors leave.
        ess_threshold: resample when the effective sample size (Σ w)² / Σ w² falls below this share of N;
            from 0 (never) to 1 (whenever weights differ).
        resampling: `systematic`, each particle is kept ⌊N w⌋ or ⌈N w⌉ times, w normalised; or `multinomial`,
            N independent draws.
        potential: a function of a sequence to the log of a factor, -inf for an impossible one, and then for
            all that begins with it. Only its value for finished sequences enters the target; those before steer.
        proposal: applied after `processors` to what tokens are drawn from, and to nothing else: the weight
            makes up for it. It must leave every token, as a temperature does.
        processors: what makes the target differ from the model.

    Example:
        >>> import numpy as np, ovdecode as od
        >>> # After a nearly always c, which is forbidden; after b nearly always b. Token by token, aa and ab are half.
        >>> rows = {(2,): [0.5, 0.5, 0], (0,): [0.01, 0.01, 0.98], (1,): [0, 0.98, 0.02]}
        >>> with np.errstate(divide="ignore"):
        ...     model = od.Model(od.TableRunner({key: np.log(row) for key, row in rows.items()}))
        >>> smc = od.Smc(num_particles=500, processors=od.SuppressedTokens([2]))
        >>> generation = model.generate([2], smc, max_new_tokens=2)  # allowed are aa 0.005, ab 0.005, bb 0.49
        >>> generation.text, round(np.exp(generation.info["log_normalizer"]).item(), 1)
        ('bb', 0.5)
    """

    aliases = ("sequential_monte_carlo", "particle_filter")

    num_particles: int = 8
    ess_threshold: float = 0.5
    resampling: Resampling = "systematic"
    potential: Callable[[Sequence], float] | None = None
    proposal: LogitsProcessor = field(default=Chain())

    def __post_init__(self) -> None:
        require(self, "num_particles", self.num_particles >= 1, "a whole number of at least 1")
        require(self, "ess_threshold", 0 <= self.ess_threshold <= 1, "from 0 to 1")
        one_of("resampling", self.resampling, Resampling)
        function = self.potential is None or callable(self.potential)
        require(self, "potential", function, "a function of a sequence, or none")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend every particle by a token and weight it, and resample while some go on."""
        streams = [rng.split(index) for index in range(self.num_particles)]
        value = self._potential(prompt)
        start = Particle(prompt, value, value, value > -inf and not stop(prompt))
        particles, resamplings = [start] * self.num_particles, 0
        while any(each.running for each in particles):
            live = [index for index, each in enumerate(particles) if each.running]
            rows = yield [particles[index].sequence for index in live]
            for index, logits in zip(live, rows, strict=True):
                particles[index] = self._extend(particles[index], logits, stop, streams[index])
            weights, total = _weights(particles)
            uneven = _ess(weights) < self.ess_threshold * len(particles) * (1 - ROUNDING)
            if uneven and any(each.running for each in particles):
                origins = resample(weights, self.resampling, rng)
                mean = total - log(len(particles))
                particles = [replace(particles[origin], log_weight=mean) for origin in origins]
                resamplings += 1
        weights, total = _weights(particles)
        ranked = sorted((each for each in particles if each.log_weight > -inf), key=lambda each: -each.log_weight)
        info = {
            "log_normalizer": total - log(len(particles)),
            "resamplings": resamplings,
            "ess": _ess(weights),
        }
        return Outcome(tuple(Hypothesis(each.sequence, each.log_weight - total) for each in ranked), info)

    def _extend(self, particle: Particle, logits: Logits, stop: Stop, rng: Random) -> Particle:
        """A particle with one token more, its weight multiplied by what makes it proper; one of weight 0 ends."""
        try:
            model = Candidates.after(particle.sequence, logits).logprobs
            target = self.candidates(model, particle.sequence)
            target.peak  # noqa: B018  raises if no token is left
        except DeadEnd:
            return replace(particle, log_weight=-inf, running=False)
        proposed = self.proposal(target, particle.sequence)
        token = proposed.draw(rng)
        sequence = particle.sequence + token
        # The model's own mass is 1 up to rounding; what is untouched grows by exactly 1.
        growth = 0.0 if target.logits is model else target.logsumexp - Candidates(model).logsumexp
        if proposed is not target:
            growth += self._correction(target, proposed, token)
        value = self._potential(sequence)
        growth += value - particle.potential
        return Particle(sequence, particle.log_weight + growth, value, growth > -inf and not stop(sequence))

    def _correction(self, target: Candidates, proposed: Candidates, token: int) -> float:
        """Log of how much more probable a token is than it was to be drawn."""
        if np.count_nonzero(proposed.logits > -inf) < np.count_nonzero(target.logits > -inf):
            raise StrategyError(f"`proposal` of `smc` must leave every token, but {self.proposal} removes some")
        drawn = np.array([token])
        (ours,), (theirs,) = target.logprobs[target.positions(drawn)], proposed.logprobs[proposed.positions(drawn)]
        return float(ours) - float(theirs)

    def _potential(self, sequence: Sequence) -> float:
        value = 0.0 if self.potential is None else self.potential(sequence)
        if not isinstance(value, Real) or not value < inf:
            raise StrategyError(f"`potential` of `smc` must return a number below inf, or -inf, got {value!r:.80}")
        return float(value)


def _weights(particles: list[Particle]) -> tuple[NDArray[np.float64], float]:
    """Normalised weights, shape (N,), and the log of their sum before that."""
    logs = np.array([each.log_weight for each in particles])
    if logs.max() == -inf:
        raise DeadEnd("no token is left possible in any particle of `smc`; its target may have no text at all")
    total = logsumexp(logs)
    return np.exp(logs - total), total


def _ess(weights: NDArray[np.float64]) -> float:
    return float(1.0 / np.square(weights).sum())
