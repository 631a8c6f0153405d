"""One thing to decode."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from ovdecode.errors import ConfigurationError, ParameterError, PromptError, UnknownNameError
from ovdecode.plugin import is_whole
from ovdecode.random import Random
from ovdecode.registry import lookup
from ovdecode.sequence import Sequence
from ovdecode.spec import parse
from ovdecode.stopping import AnyOf, StoppingCriterion
from ovdecode.strategy import Strategy

if TYPE_CHECKING:
    from ovdecode.model import Model

Message: TypeAlias = Mapping[str, str]
Prompt: TypeAlias = str | Items[int] | Items[Message]
"""Plain text, token ids, or a conversation of messages with `role` and `content`."""

_STOP_AT_TEXT = 'to stop at a text, give od.StopString("...")'


@dataclass(frozen=True)
class Task:
    """A prompt for a model and how to go on from it.

    Args:
        model: from `ovdecode.load`.
        prompt: text as it is, token ids, or messages for the model's chat template.
        strategy: a strategy or its spec string.
        max_new_tokens: bound on generated tokens; None leaves the bound to `stop`.
        stop: further criteria, or their spec string.
        ignore_eos: go on after the tokens that end a text.
        seed, sample: with the prompt's tokens, the key of the random numbers.

    Raises:
        ConfigurationError: for what is not of these kinds, or without a bound, for which the model's context would be
            the only one.
        UnknownNameError: for a spec string with a name that there is not.
    """

    model: Model
    prompt: Prompt
    strategy: Strategy | str = "greedy"
    max_new_tokens: int | None = 128
    stop: StoppingCriterion | str | None = None
    ignore_eos: bool = False
    seed: int = 0
    sample: int = 0

    def __post_init__(self) -> None:
        if not (hasattr(self.model, "runner") and hasattr(self.model, "vocabulary")):
            raise ConfigurationError(
                f"`model` must be a model from `ovdecode.load`, got {self.model!r:.80}; write Task(model, prompt)"
            )
        for name in ("seed", "sample"):
            if not is_whole(value := getattr(self, name)):
                raise ConfigurationError(f"`{name}` must be a whole number, got {value!r:.80}")
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", parse(self.strategy))
        if not isinstance(self.strategy, Strategy):
            raise ConfigurationError(f"`strategy` must be a strategy or its spec string, got {self.strategy!r}")
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", _parse_stop(self.stop))
        if not isinstance(self.stop, StoppingCriterion | None):
            raise ConfigurationError(
                f"`stop` must be a stopping criterion or its spec string, got {self.stop!r:.80}; {_STOP_AT_TEXT}"
            )
        if not self.criterion.ends:
            raise ConfigurationError(
                f"`stop` must be sure to come, and {self.stop} is not; give max_new_tokens=256, say, or MaxTime(60)"
            )

    @property
    def method(self) -> Strategy:
        """The strategy."""
        return cast(Strategy, self.strategy)

    @property
    def criterion(self) -> StoppingCriterion:
        """Everything that ends this task."""
        criteria: list[StoppingCriterion] = []
        if not self.ignore_eos:
            criteria.append(_criterion("eos"))
        if self.stop is not None:
            criteria.append(cast(StoppingCriterion, self.stop))
        if self.max_new_tokens is not None:
            criteria.append(_criterion("max_new_tokens", self.max_new_tokens))
        context = self.model.runner.context_length
        if context is not None and any(criterion.ends for criterion in criteria):
            criteria.append(_criterion("max_length", context))
        return AnyOf(tuple(criteria)) if criteria else ~_criterion("eos")

    def start(self) -> Sequence:
        """The sequence of the prompt.

        Raises:
            PromptError: if it is empty or longer than the model's context.
        """
        tokens = self._tokens()
        context = self.model.runner.context_length
        if not tokens:
            raise PromptError("`prompt` must have at least one token, got an empty one")
        if context is not None and len(tokens) >= context:
            raise PromptError(
                f"`prompt` must leave room in the context of {context} tokens, but it has {len(tokens)}; shorten it"
            )
        return self.model.vocabulary.prompt(tokens)

    def rng(self, prompt: Sequence) -> Random:
        """The random numbers of this task: a function of seed, prompt and sample alone."""
        return Random(int(self.seed), prompt.tokens.tolist(), int(self.sample))

    def _tokens(self) -> list[int]:
        if isinstance(self.prompt, str):
            return self.model.encode(self.prompt)
        if isinstance(self.prompt, bytes | bytearray | memoryview):
            kind = type(self.prompt).__name__
            raise PromptError(f'`prompt` must be text or token ids, got {kind}; decode it: str(prompt, "utf-8")')
        if isinstance(self.prompt, Mapping) or not isinstance(self.prompt, Items | np.ndarray):
            raise PromptError(f"`prompt` must be text or a list of token ids or of messages, got {self.prompt!r:.80}")
        if isinstance(self.prompt, np.ndarray) and self.prompt.ndim != 1:
            raise PromptError(f"`prompt` must be one row of token ids, got an array of shape {self.prompt.shape}")
        if any(isinstance(part, Mapping) for part in self.prompt):
            return self.model.apply_chat_template(cast(Items[Message], self.prompt))
        if any(isinstance(part, str) for part in self.prompt):
            raise PromptError(
                f"`prompt` must be the one prompt of a task, got a list of texts: {self.prompt!r:.80}; for several, "
                "write od.run([od.Task(model, each) for each in prompts])"
            )
        return [_token(part) for part in self.prompt]


def _token(part: object) -> int:
    try:
        return index(cast(int, part))
    except TypeError as error:
        raise PromptError(f"`prompt` must hold token ids, which are whole numbers, got {part!r:.80}") from error


def _parse_stop(text: str) -> StoppingCriterion:
    """The criterion of a spec; an error about text that is none says how to stop at a text."""
    try:
        return cast(StoppingCriterion, parse(text, "stopping"))
    except ParameterError:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; {_STOP_AT_TEXT}") from error
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; {_STOP_AT_TEXT}") from error


def _criterion(name: str, *values: int) -> StoppingCriterion:
    return cast(StoppingCriterion, lookup("stopping", name)(*values))
