"""The laws that every metric keeps, each a function; `check_metric` asks for all of them.

from ovdecode.testing import check_metric

check_metric(MyMetric(n=3))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import Any

from ovdecode.engine import Engine, Task
from ovdecode.metric import Metric, Result, SetMetric, TextMetric
from ovdecode.model import Model
from ovdecode.testing.cases import MAX_NEW_TOKENS, PROMPTS, broken, check_success, table_model
from ovdecode.testing.configuration import law_configuration

__all__ = ["check_metric", "law_metric_isolation", "law_metric_purity", "sample_results"]

REFERENCES = ("abc", "bcd")


def check_metric(
    metric: Metric,
    *,
    results: Items[Result] | None = None,
    invalid: Mapping[str, Iterable[Any]] | None = None,
) -> None:
    """Hold a metric to all laws: configuration, purity, isolation.

    Args:
        metric: what is tested.
        results: texts to try it on; those of `sample_results` by default.
        invalid: parameter to values that it must refuse.

    Raises:
        AssertionError: the message begins with the law, and says what was seen and what was expected.

    Example:
        >>> import ovdecode as od
        >>> check_metric(od.RepN(n=2))
    """
    results = sample_results() if results is None else results
    law_configuration(metric, invalid)
    law_metric_purity(metric, results)
    law_metric_isolation(metric, results)


def law_metric_purity(metric: Metric, results: Items[Result]) -> None:
    """A metric is a function of the texts: the same again for the same ones, which it leaves as they are.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Purity"
    given = list(results)
    before = [_facts(result) for result in given]
    first, second = _values(metric, given), _values(metric, given)
    if len(given) != len(before) or any(_facts(one) != facts for one, facts in zip(given, before, strict=True)):
        raise broken(law, metric, "texts that are not what they were", "a metric that only reads")
    if not _same(first, second):
        raise broken(law, metric, f"{second} the second time", f"{first}, as the first time")


def law_metric_isolation(metric: Metric, results: Items[Result]) -> None:
    """What is said of a text does not depend on those beside it, and one that can't be measured spoils no other.

    A metric of many texts is NaN for none at all.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Isolation"
    if isinstance(metric, SetMetric):
        if not math.isnan(nothing := metric([])):
            raise broken(law, metric, f"{nothing} for no texts", "NaN")
        return
    assert isinstance(metric, TextMetric)
    alone = [value for result in results for value in metric.measure([result])]
    for result, value in zip(results, alone, strict=True):
        if isinstance(value, Exception):
            raise broken(law, metric, f"{value!r} for {result.text!r}", "a number") from value
    try:
        together = metric.measure([results[0], _Unreadable("?"), *results[1:]])
    except Exception as error:
        raise broken(law, metric, f"{error!r} for all texts", "the exception in place of the one") from error
    failure = together.pop(1)
    if not _same(alone, together):
        raise broken(law, metric, f"{together} for texts beside others", f"{alone}, as for each alone")
    if not isinstance(failure, Exception):
        raise broken(law, metric, f"{failure!r} for a text that can't be read", "the exception in its place")


def sample_results(model: Model | None = None) -> list[Result]:
    """Texts to try a metric on: samples of several prompts with references, and an empty text.

    Args:
        model: what decodes them; a small one on a `TableRunner` by default.
    """
    model = model or table_model()
    tasks = [
        Task(model, prompt, "sampling", max_new_tokens=MAX_NEW_TOKENS, sample=sample)
        for prompt in PROMPTS
        for sample in range(3)
    ]
    found: list[Result] = []
    for generation in sorted(Engine().run(tasks), key=lambda each: each.index):
        check_success("Samples", generation)
        found.append(Result.of(generation, REFERENCES))
    return [*found, dataclasses.replace(found[0], text="", tokens=(), logprobs=())]


class _Unreadable(Result):
    """A text of which nothing can be read."""

    def __getattribute__(self, name: str) -> Any:
        if name in Result.__dataclass_fields__:
            raise ValueError("this text can't be read on purpose")
        return super().__getattribute__(name)


def _values(metric: Metric, results: list[Result]) -> list[float | Exception]:
    if isinstance(metric, SetMetric):
        return [metric(results)]
    assert isinstance(metric, TextMetric)
    return metric.measure(results)


def _facts(result: Result) -> dict[str, Any]:
    facts = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    del facts["model"]
    return {name: repr(fact) for name, fact in facts.items()}  # by text, in which NaN is equal to NaN


def _same(one: Items[float | Exception], other: Items[float | Exception]) -> bool:
    return list(map(repr, one)) == list(map(repr, other))
