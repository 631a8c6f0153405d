"""One thing to decode."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from ovdecode.errors import ConfigurationError, PromptError
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
        ConfigurationError: without a bound, for which the model's context would be the only one.
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
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", parse(self.strategy))
        if not isinstance(self.strategy, Strategy):
            raise ConfigurationError(f"`strategy` must be a strategy or its spec string, got {self.strategy!r}")
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", parse(self.stop, "stopping"))
        if not isinstance(self.stop, StoppingCriterion | None):
            raise ConfigurationError(f"`stop` must be a stopping criterion or its spec string, got {self.stop!r}")
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
        if isinstance(self.prompt, Mapping) or not isinstance(self.prompt, Items | np.ndarray):
            raise PromptError(f"`prompt` must be text or a list of token ids or of messages, got {self.prompt!r:.80}")
        if any(isinstance(part, Mapping) for part in self.prompt):
            return self.model.apply_chat_template(cast(Items[Message], self.prompt))
        return [index(token) for token in cast(Items[int], self.prompt)]


def _criterion(name: str, *values: int) -> StoppingCriterion:
    return cast(StoppingCriterion, lookup("stopping", name)(*values))
