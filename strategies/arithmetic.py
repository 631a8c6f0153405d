"""Arithmetic sampling: several draws that are spread over the distribution."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from ovdecode.numerics import Floats
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.extensions import require_positive
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Stepwise, Strategy, gather, outcome


@register("arithmetic")
@dataclass(frozen=True)
class ArithmeticSampling(Strategy):
    """n sequences drawn from codes that are evenly spaced over [0, 1): each is a sample, together they are diverse.

    Law: a sequence owns an interval of [0, 1) as long as its probability: the tokens of a step divide the
    interval of the sequence before them, in the order of their ids. Code i is (i + u) / n with one u that is
    uniform over [0, 1), and code i is decoded to the sequence in whose interval it lies. After a random
    rotation each code alone is uniform: every one of the n sequences has exactly the law of `strategy`, and
    their average is unbiased. A sequence of probability p is found n·p times, rounded up or down.
    Source: Vilnis, Zemlyanskiy, Murray, Passos, Sanghai 2023, "Arithmetic Sampling: Parallel Diverse Decoding
    for Large Language Models" (arXiv:2210.15458). The authors' code spaces its codes by 1 / (n + 1), which
    leaves one gap of twice that.

    The sequences come in the order of their codes, rotated, and not by score: each of them is a fair draw.

    Args:
        n: how many; at least 1.
        strategy: whose law is drawn from.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): [0.0, 0.0]}))
        >>> generation = model.generate([0], od.ArithmeticSampling(4), max_new_tokens=2)
        >>> sorted(each.tokens for each in generation.alternatives)
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """

    commits: ClassVar[bool] = False

    n: int = 4
    strategy: Stepwise = field(default=Sampling())

    def __post_init__(self) -> None:
        require_positive(self, "n")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Decode all codes at once."""
        drawn = replace(self.strategy, processors=self.processors | self.strategy.processors)
        start = rng.uniform()
        places = [(start + index / self.n) % 1.0 for index in range(self.n)]
        results = yield from gather(
            decode_code(drawn, place, prompt, stop, rng.split(index)) for index, place in enumerate(places)
        )
        sequences = [outcome(result).sequence for result in results]
        return Outcome(tuple(Hypothesis(sequence, sequence.logprob) for sequence in sequences))


def decode_code(
    strategy: Stepwise, place: float, prompt: Sequence, stop: Stop, rng: Random
) -> Generator[Sequence, Any, Sequence]:
    """The sequence in whose interval a place in [0, 1) lies."""
    sequence, code = prompt, Code(place, rng)
    while not stop(sequence):
        logits = yield sequence
        sequence += strategy.law(logits, sequence).draw(code)
        code.refine()
    return sequence


class Code:
    """A place in [0, 1), which chooses as a random number does, and goes on as its place within what was chosen.

    A double holds 53 bits of a place, and every choice uses up some.

    Args:
        place: where it begins.
        rng: draws further bits when few are left.
    """

    ordered: ClassVar[bool] = True

    def __init__(self, place: float, rng: Random) -> None:
        self.place, self._rng = place, rng
        self._known = _GRAIN

    def choose(self, weights: Floats) -> int:
        """The index in whose part of [0, 1) it lies; each has a part in proportion to its weight, shape (n,)."""
        ends = weights.cumsum(dtype=np.float64)
        target = min(self.place * float(ends[-1]), float(np.nextafter(ends[-1], 0.0)))
        index = int(ends.searchsorted(target, "right"))
        begin = float(ends[index - 1]) if index else 0.0
        length = float(ends[index]) - begin
        self.place = min((target - begin) / length, _BELOW_ONE)
        self._known *= float(ends[-1]) / length
        return index

    def refine(self) -> None:
        """Draw further bits, if few are left."""
        if self._known > _COARSE:
            self.place, self._known = min(self.place + self._known * self._rng.uniform(), _BELOW_ONE), _GRAIN


_GRAIN, _COARSE = 2.0**-53, 2.0**-32
_BELOW_ONE = 1.0 - _GRAIN
