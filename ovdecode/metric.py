"""Metrics say something of finished texts as one number: of each alone, or of many together.

A metric that has to ask a model does it as a strategy does, with requests that it yields; `ask` runs those of all
texts in one batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from ovdecode.engine import Engine, Task
from ovdecode.errors import ConfigurationError
from ovdecode.generation import Cost, Generation
from ovdecode.model import Model
from ovdecode.plugin import Plugin, require
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Request, Strategy
from ovdecode.vocabulary import Vocabulary

T = TypeVar("T")
MAX_LIVE = 16
"""How many texts are asked about at once: logits for each of many tokens take more memory than decoding does."""


@dataclass(frozen=True)
class Result:
    """What a metric sees of one finished text.

    Attributes:
        text: what was generated, as a user is shown it.
        tokens: its ids, an end token included.
        logprobs: log-probability (natural) of each under the model that decoded; NaN where it is not known.
        prompt: the text that it goes on from.
        references: texts that would have been right.
        stop: name of the criterion that ended it; empty if none did.
        cost: what it cost.
        info: the strategy's own figures.
        strategy: spec string of what decoded it.
        model: what decoded it; None if it is not at hand.
        prompt_tokens: the ids that `tokens` follow.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt: str = ""
    references: tuple[str, ...] = ()
    stop: str = ""
    cost: Cost = field(default=Cost())
    info: Mapping[str, float] = field(default_factory=dict)
    strategy: str = ""
    model: Model | None = None
    prompt_tokens: tuple[int, ...] = ()

    @classmethod
    def of(cls, generation: Generation, references: Items[str] = ()) -> Result:
        """What metrics see of a generation.

        Raises:
            Exception: the generation's own error, if it failed.
        """
        if generation.error is not None:
            raise generation.error
        task = generation.task
        prompt = task.start().tokens.tolist()
        return cls(
            text=generation.text,
            tokens=generation.tokens,
            logprobs=generation.token_logprobs,
            prompt=task.prompt if isinstance(task.prompt, str) else _text(prompt, task.model.vocabulary),
            references=tuple(references),
            stop="" if generation.stop_reason is None else generation.stop_reason.name,
            cost=generation.cost,
            info=generation.info,
            strategy=str(task.strategy),
            model=task.model,
            prompt_tokens=tuple(prompt[: len(prompt) - generation.taken_back]),
        )


def _text(tokens: list[int], vocabulary: Vocabulary) -> str:
    spelling = vocabulary.spelling
    plain = (spelling.token_bytes(token) for token in tokens if token not in spelling.special_ids)
    return b"".join(plain).decode("utf-8", "replace")


@dataclass(frozen=True)
class Metric(Plugin):
    """A number that says something of finished texts; NaN where it does not apply."""

    family: ClassVar[str] = "metric"
    higher_is_better: ClassVar[bool | None] = None
    """Whether more of it is what one wants; None if neither more nor less is."""
    of_diversity: ClassVar[bool] = False
    """Whether it says how texts differ within and among themselves, rather than how good they are."""
    unit: ClassVar[str] = ""


@dataclass(frozen=True)
class TextMetric(Metric):
    """Says something of one text. Subclass it as a frozen dataclass and write `__call__`."""

    @abstractmethod
    def __call__(self, result: Result) -> float:
        """The value for one text; NaN if it does not apply, as without a reference."""

    def measure(self, results: Items[Result]) -> list[float | Exception]:
        """The value for each text; what went wrong with one is an exception in its place, and the others stand."""
        return [attempt(self, result) for result in results]


@dataclass(frozen=True)
class SetMetric(Metric):
    """Says something of many texts together: all those of one method on one model. Write `__call__`."""

    @abstractmethod
    def __call__(self, results: Items[Result]) -> float:
        """The value for all texts; NaN if it does not apply, as for no texts."""


@dataclass(frozen=True)
class AskingMetric(TextMetric):
    """Says something of one text that a model has to be asked for. Write `question`.

    Args:
        model: who is asked, a model or the source of one; None for the model that decoded.
    """

    model: Model | str | None = None

    def __post_init__(self) -> None:
        require_model(self)

    @abstractmethod
    def question(self, prompt: Sequence, tokens: Items[int]) -> Question[float]:
        """Yields requests as a strategy does; returns the value for the text of `tokens` after `prompt`."""

    def __call__(self, result: Result) -> float:
        """The value for one text."""
        return raised(self.measure([result]))[0]

    def measure(self, results: Items[Result]) -> list[float | Exception]:
        """The value for each text, all of them in one batch."""
        return ask(results, self.question, self.model)


Question: TypeAlias = Generator["Request | list[Request]", Any, T]
"""What a metric wants to know from a model: it yields requests, is sent the answers, and returns what it found."""


def ask(
    results: Items[Result],
    question: Callable[[Sequence, Items[int]], Question[T]],
    model: Model | str | None = None,
) -> list[T | Exception]:
    """What `question(prompt, tokens)` finds for each text, all of them in one batch.

    A model that spells all of a result's tokens as the model that decoded does is asked about these tokens; any other
    about the text, in its own tokens.

    Args:
        results: the texts.
        question: asks a model about tokens that follow a prompt.
        model: who is asked, a model or the source of one; None for the model that decoded.

    Returns:
        What was found, or what went wrong, in the order of `results`.
    """
    found: dict[int, T | Exception] = {}

    def tasks() -> Iterator[Task]:
        for index, result in enumerate(results):
            try:
                asked = _asked(result, model)
                prompt, tokens = _tokens(result, asked)
                yield Task(asked, prompt, _Asking(question, tuple(tokens), found, index), 1, ignore_eos=True)
            except Exception as error:
                found[index] = error

    for generation in Engine(max_live=MAX_LIVE).run(tasks()):
        if generation.error is not None:
            found[cast(_Asking, generation.task.strategy).index] = generation.error
    return [found[index] for index in range(len(results))]


def attempt(function: Callable[[Result], T], result: Result) -> T | Exception:
    """What a function makes of a result, or the exception that it raises."""
    try:
        return function(result)
    except Exception as error:
        return error


def raised(values: list[T | Exception]) -> list[T]:
    """The values, if none is an exception.

    Raises:
        Exception: the first that is among them.
    """
    for value in values:
        if isinstance(value, Exception):
            raise value
    return cast("list[T]", values)


def require_model(metric: Any) -> None:
    """Refuse a `model` of a metric that is no model, no source of one, and not None.

    Raises:
        ConfigurationError: for anything else.
    """
    named = isinstance(metric.model, Model | str | None)
    require(metric, "model", named, "a model, the source of one, or none")


@dataclass(frozen=True)
class _Asking(Strategy):
    """Decodes nothing: it asks a question and keeps what it found."""

    question: Callable[[Sequence, Items[int]], Question[Any]]
    tokens: tuple[int, ...]
    found: dict[int, Any]
    index: int

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask, and return the prompt as it is."""
        self.found[self.index] = yield from self.question(prompt, self.tokens)
        return prompt


def _asked(result: Result, model: Model | str | None) -> Model:
    if isinstance(model, Model):
        return model
    if result.model is None:
        raise ConfigurationError("`model` of a Result must be the model that decoded, to be asked about it, got None")
    return result.model if model is None else result.model.sibling(model)


def _tokens(result: Result, model: Model) -> tuple[Items[int], Items[int]]:
    """A result's prompt and text as tokens of a model."""
    if result.model is not None and _spell_alike(result, result.model.vocabulary, model.vocabulary):
        return result.prompt_tokens or model.encode(result.prompt), result.tokens
    return model.encode(result.prompt), model.vocabulary.spelling.encode(result.text)


def _spell_alike(result: Result, ours: Vocabulary, theirs: Vocabulary) -> bool:
    return ours is theirs or all(
        token < theirs.size and ours.spelling.token_bytes(token) == theirs.spelling.token_bytes(token)
        for token in {*result.prompt_tokens, *result.tokens}
    )
