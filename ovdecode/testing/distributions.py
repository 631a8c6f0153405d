"""Law 3: what a strategy decodes has exactly the distribution that its random choices say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from scipy.stats import binom

from ovdecode.engine import Engine, Task
from ovdecode.engine.task import Prompt
from ovdecode.errors import StrategyError
from ovdecode.model import Model
from ovdecode.strategy import Strategy
from ovdecode.testing.cases import PROMPTS, broken, check_success, table_model
from ovdecode.testing.enumeration import Choices, paths

LAW = "Exact distribution"
Outcomes = Mapping[tuple[int, ...], float]
"""Generated tokens to their probability."""


def law_distribution(
    strategy: Strategy,
    expected: Outcomes | None = None,
    model: Model | None = None,
    prompt: Prompt | None = None,
    max_new_tokens: int = 2,
    *,
    samples: int = 300,
    max_paths: int = 1500,
) -> None:
    """What all ways in which the random choices can fall lead to is a distribution, and the one stated.

    Every choice is enumerated. The probabilities must sum to 1, equal those expected, and be those of
    independent samples. A strategy that has more than `max_paths` paths is enumerated for fewer tokens,
    unless `expected` is given; if they are too many even for one token, those enumerated must not sum to more
    than 1. A strategy that draws continuous noise is judged by its samples alone.

    Args:
        strategy: what is tested.
        expected: the law that it states: generated tokens of the best sequence to probability.
        model: on a `TableRunner`.
        prompt: where to start.
        max_new_tokens: how many tokens the expected outcomes have at the most.
        samples: how many samples are compared; an outcome may be wrongly held unlikely once in 10^9 times.
        max_paths: bound on the runs.

    Raises:
        AssertionError: if it does not hold.

    Example:
        >>> import numpy as np
        >>> import ovdecode as od
        >>> coin = od.Model(od.TableRunner({(): np.log([0.75, 0.25])}))
        >>> law_distribution(od.Sampling(), {(0,): 0.75, (1,): 0.25}, coin, [0], max_new_tokens=1)
    """
    model, prompt = model or table_model(), prompt or PROMPTS[0]
    for length in [max_new_tokens] if expected is not None else range(max_new_tokens, 0, -1):
        task = Task(model, prompt, strategy, length)
        exact, complete = _enumerate(task, None if expected is not None else max_paths)
        if complete:
            break
    if exact is not None:
        _check_sum(strategy, exact, complete)
    if exact is not None and expected is not None:
        _check_equal(strategy, exact, expected)
    law = exact if exact is not None and complete else expected
    if law is not None:
        _check_samples(task, law, samples)


def _enumerate(task: Task, max_paths: int | None) -> tuple[dict[tuple[int, ...], float] | None, bool]:
    """The outcomes of all paths, and whether these are all; None for continuous noise."""
    found: dict[tuple[int, ...], float] = {}
    choices = _Paths()
    for count, generation in enumerate(paths(task, choices), start=1):
        if choices.continuous:
            return None, True
        if isinstance(generation.error, StrategyError):
            raise broken(LAW, task.method, str(generation.error), "choices that follow from those before") from None
        check_success(LAW, generation)
        found[generation.tokens] = found.get(generation.tokens, 0.0) + choices.probability
        if count == max_paths:
            return found, not choices.advance()
    return found, True


class _Paths(Choices):
    """Choices that note whether they were asked for continuous noise."""

    continuous = False

    def uniform(self):  # type: ignore[no-untyped-def]
        self.continuous = True
        return super().uniform()

    def gumbel(self, size: int):  # type: ignore[no-untyped-def]
        self.continuous = True
        return super().gumbel(size)

    def gumbel_noise(self):  # type: ignore[no-untyped-def]
        self.continuous = True
        return super().gumbel_noise()


def _check_sum(strategy: Strategy, exact: Outcomes, complete: bool) -> None:
    total = math.fsum(exact.values())
    if total > 1 + 1e-6 or (complete and total < 1 - 1e-6):
        raise broken(LAW, strategy, f"probabilities with the sum {total}", "1")


def _check_equal(strategy: Strategy, exact: Outcomes, expected: Outcomes) -> None:
    for tokens in {**exact, **expected}:
        seen, wanted = exact.get(tokens, 0.0), expected.get(tokens, 0.0)
        if not math.isclose(seen, wanted, rel_tol=1e-5, abs_tol=1e-6):
            raise broken(LAW, strategy, f"{tokens} with the probability {seen:.6g}", f"{wanted:.6g}")


def _check_samples(task: Task, law: Outcomes, samples: int) -> None:
    tasks = [
        Task(task.model, task.prompt, task.strategy, task.max_new_tokens, seed=1, sample=sample)
        for sample in range(samples)
    ]
    generations = list(Engine().run(tasks))
    for generation in generations:
        check_success(LAW, generation)
    counts = Counter(generation.tokens for generation in generations)
    for tokens in {**law, **counts}:
        count, probability = counts[tokens], min(max(law.get(tokens, 0.0), 0.0), 1.0)
        likely = min(binom.cdf(count, samples, probability), binom.sf(count - 1, samples, probability))
        if likely < 1e-9:
            seen = f"{tokens} in {count} of {samples} samples"
            raise broken(LAW, task.method, seen, f"a probability of {probability:.6g}, that of its choices")
