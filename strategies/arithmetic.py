"""Arithmetic sampling: several draws that are spread over the distribution."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from ovdecode.candidates import Candidates
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
        codes = [(start + index / self.n) % 1.0 for index in range(self.n)]
        results = yield from gather(
            decode_code(drawn, code, prompt, stop, rng.split(index)) for index, code in enumerate(codes)
        )
        sequences = [outcome(result).sequence for result in results]
        return Outcome(tuple(Hypothesis(sequence, sequence.logprob) for sequence in sequences))


def decode_code(
    strategy: Stepwise, code: float, prompt: Sequence, stop: Stop, rng: Random
) -> Generator[Sequence, Any, Sequence]:
    """The sequence in whose interval a code of [0, 1) lies.

    A double holds 53 bits of a code, and every token uses up some. Further bits are drawn when few are left.
    """
    sequence, known = prompt, _GRAIN
    while not stop(sequence):
        logits = yield sequence
        token, code, probability = narrow(strategy.law(logits, sequence), code)
        sequence, known = sequence + token, known / probability
        if known > _COARSE:
            code, known = min(code + known * rng.uniform(), _BELOW_ONE), _GRAIN
    return sequence


def narrow(law: Candidates, code: float) -> tuple[int, float, float]:
    """The token in whose part of [0, 1) a code lies, the code's place within that part, and the part's length."""
    ends = law.weights.cumsum(dtype=np.float64)
    target = min(code * float(ends[-1]), float(np.nextafter(ends[-1], 0.0)))
    index = int(ends.searchsorted(target, "right"))
    begin = float(ends[index - 1]) if index else 0.0
    length = float(ends[index]) - begin
    return int(law.ids[index]), min((target - begin) / length, _BELOW_ONE), length / float(ends[-1])


_GRAIN, _COARSE = 2.0**-53, 2.0**-32
_BELOW_ONE = 1.0 - _GRAIN
