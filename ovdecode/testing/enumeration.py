"""Exact distributions: a strategy is run once for every way its random choices can fall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ovdecode.engine import Engine, Task
from ovdecode.errors import StrategyError
from ovdecode.generation import Generation
from ovdecode.numerics import Floats
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion
from ovdecode.strategy import Strategy

if TYPE_CHECKING:
    from ovdecode.model import Model


def distribution(
    strategy: Strategy | str,
    model: Model,
    prompt: list[int],
    *,
    max_new_tokens: int,
    stop: StoppingCriterion | str | None = None,
) -> dict[tuple[int, ...], float]:
    """The probability of everything that a strategy can decode, from its best sequence's generated tokens.

    Every `Random.choose` and `Random.flip` branches over its possible outcomes, and the strategy is run in an
    engine along each path: exact up to the rounding of the weights, with as many runs as there are paths. The
    probabilities sum to 1. Use a small table.

    Args:
        strategy: a strategy or its spec string.
        model: one on a `TableRunner`.
        prompt: token ids.
        max_new_tokens: bound on generated tokens.
        stop: further criteria.

    Raises:
        StrategyError: if the strategy draws continuous noise, which has no finite number of outcomes, or if
            its choices depend on anything but the model and the choices before.
        Exception: whatever goes wrong in decoding.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): np.log([0.75, 0.25])}))
        >>> exact = distribution("sampling", model, [0], max_new_tokens=2)
        >>> {tokens: round(probability, 4) for tokens, probability in exact.items()}
        {(0, 0): 0.5625, (0, 1): 0.1875, (1, 0): 0.1875, (1, 1): 0.0625}
    """
    found: dict[tuple[int, ...], float] = {}
    choices = Choices()
    for generation in paths(Task(model, prompt, strategy, max_new_tokens, stop), choices):
        if generation.error is not None:
            raise generation.error
        found[generation.tokens] = found.get(generation.tokens, 0.0) + choices.probability
    return found


def paths(task: Task, choices: Choices) -> Iterator[Generation]:
    """The result of a task along every path of its choices; `choices.probability` is that of the present path."""
    rehearsal = _Rehearsal(
        **{name: getattr(task, name) for name in Task.__dataclass_fields__},
        choices=choices,
    )
    while True:
        (generation,) = Engine().run([rehearsal])
        yield generation
        if not choices.advance():
            return


class Choices(Random):
    """Random numbers that are not random: every choice is prescribed, and `advance` goes to the next path.

    Paths are taken depth first. A choice beyond the prescribed ones takes its first possible outcome.
    """

    def __init__(self) -> None:
        super().__init__("every choice")
        self.probability = 1.0
        """Of the choices made since the last `advance`."""
        self._made = 0
        self._open: list[list[tuple[int, float]]] = []
        """For each choice, the outcomes left and their probabilities; the first is the one to take."""
        self._sizes: list[int] = []

    def advance(self) -> bool:
        """Go to the next path; False if there is none."""
        del self._open[self._made :], self._sizes[self._made :]
        while self._open and len(self._open[-1]) == 1:
            self._open.pop()
            self._sizes.pop()
        self._made, self.probability = 0, 1.0
        if not self._open:
            return False
        self._open[-1].pop(0)
        return True

    def choose(self, weights: Floats) -> int:
        """The prescribed index; only those with a positive weight are."""
        shares = np.asarray(weights, np.float64)
        shares = shares / shares.sum()
        if self._made == len(self._open):
            self._open.append([(int(index), float(shares[index])) for index in np.flatnonzero(shares > 0)])
            self._sizes.append(len(shares))
        if self._sizes[self._made] != len(shares):
            raise StrategyError(
                f"choice {self._made} must be between as many outcomes in every run, but was between "
                f"{self._sizes[self._made]} and is now between {len(shares)}; does the strategy keep state, "
                "or use other randomness than its `rng`?"
            )
        index, share = self._open[self._made][0]
        self._made += 1
        self.probability *= share
        return index

    def flip(self, probability: float) -> bool:
        """A choice between two."""
        return bool(self.choose(np.clip([1.0 - probability, probability], 0.0, 1.0)))

    def split(self, index: int) -> Random:
        """These same choices: what all branches choose together is one path."""
        return self

    def uniform(self) -> NoReturn:
        """Not possible."""
        raise _continuous("uniform")

    def gumbel(self, size: int) -> NoReturn:
        """Not possible."""
        raise _continuous("gumbel")

    def gumbel_noise(self) -> NoReturn:
        """Not possible."""
        raise _continuous("gumbel_noise")


def _continuous(name: str) -> StrategyError:
    return StrategyError(
        f"continuous noise (`{name}`) can't be enumerated; use `choose` or `flip`, or a statistical test"
    )


@dataclass(frozen=True)
class _Rehearsal(Task):
    """A task whose random choices are prescribed."""

    choices: Choices = field(default_factory=Choices, kw_only=True)

    def rng(self, prompt: Sequence) -> Random:
        """The prescribed choices."""
        return self.choices
