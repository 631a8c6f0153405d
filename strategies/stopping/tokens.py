"""Tokens: the criteria that look at the last ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import index

import numpy as np

from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason


@register("eos")
@dataclass(frozen=True)
class Eos(StoppingCriterion):
    """Stops at a token that ends the text.

    Law: holds if the last token was generated and is one of the end tokens.

    Source: Sutskever, Vinyals, Le 2014, "Sequence to Sequence Learning with Neural Networks",
    arXiv:1409.3215.

    Args:
        tokens: the ids that end a text, kept sorted; None takes those of the model's own configuration
            (`sequence.vocabulary.eos_token_ids`; a model may have several).

    Example:
        >>> from ovdecode import Eos, Vocabulary
        >>> prompt = Vocabulary(4, eos_token_ids=[3]).prompt([0, 3])
        >>> print(Eos()(prompt), Eos()(prompt + 3), Eos([1, 2])(prompt + 3))
        None eos(3) None
    """

    aliases = ("eos_token_id",)

    tokens: Iterable[int] | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            try:
                tokens = tuple(sorted({index(token) for token in self.tokens}))
            except TypeError:
                tokens = ()
            sound = bool(tokens) and tokens[0] >= 0
            require(self, "tokens", sound, "one or more token ids, such as [2], or None for the model's own")
            object.__setattr__(self, "tokens", tokens)

    @cached_property
    def _own(self) -> frozenset[int] | None:
        return None if self.tokens is None else frozenset(self.tokens)

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason if the last token ends the text."""
        ends = sequence.vocabulary.eos_token_ids if self._own is None else self._own
        ended = sequence.token in ends and sequence.generated_length > 0
        return StopReason(self.name, str(sequence.token)) if ended else None


@register("stop_tokens")
@dataclass(frozen=True)
class StopTokens(StoppingCriterion):
    """Stops after one of several sequences of tokens.

    Law: holds if the generated tokens end in one of the sequences; the prompt's tokens do not count.

    Source: vLLM's `stop_token_ids`, for sequences of more than one token too.

    Args:
        sequences: one or more token sequences of at least one token, such as [[198, 198], [5]].

    Example:
        >>> from ovdecode import StopTokens, Vocabulary
        >>> prompt = Vocabulary(4).prompt([0, 1])
        >>> print(StopTokens([[1, 2], [3]])(prompt + 2), StopTokens([[1, 2], [3]])(prompt + [0, 1, 2]))
        None stop_tokens(1 2)
    """

    sequences: Iterable[Iterable[int]]

    def __post_init__(self) -> None:
        try:
            sequences = tuple(tuple(index(token) for token in tokens) for tokens in self.sequences)
        except TypeError:
            sequences = ()
        sound = bool(sequences) and all(tokens and min(tokens) >= 0 for tokens in sequences)
        require(self, "sequences", sound, "one or more sequences of token ids, such as [[198, 198], [5]]")
        object.__setattr__(self, "sequences", sequences)

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason if the last tokens are one of the sequences."""
        for wanted in self.sequences:
            tokens = list(wanted)
            if sequence.token == tokens[-1] and sequence.generated[-len(tokens) :].tolist() == tokens:
                return StopReason(self.name, " ".join(map(str, tokens)))
        return None


@register("loop")
@dataclass(frozen=True)
class Loop(StoppingCriterion):
    """Stops when the text has run into a loop of tokens.

    Law: holds if, for some period q up to `max_period`, the last q · `repeats` generated tokens are the same
    q tokens `repeats` times.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751, on the
    degeneration itself.

    Args:
        max_period: the longest loop looked for, in tokens; at least 1.
        repeats: how often it must have come; at least 2. Tables and code repeat short periods honestly: stay
            above 4.

    Example:
        >>> from ovdecode import Loop, Vocabulary
        >>> prompt = Vocabulary(4).prompt([0])
        >>> print(Loop(repeats=3)(prompt + [2, 1, 2, 1, 2]), Loop(repeats=3)(prompt + [1, 2, 1, 2, 1, 2]))
        None loop(period 2)
    """

    max_period: int = 64
    repeats: int = 6

    def __post_init__(self) -> None:
        require(self, "max_period", self.max_period >= 1, "a whole number of at least 1")
        require(self, "repeats", self.repeats >= 2, "a whole number of at least 2")

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason that names the period, if the tokens repeat."""
        tokens = sequence.generated[-self.max_period * self.repeats :]
        # Only where the last token has come before can a period be, and that is rarely the case.
        earlier = tokens[-1 - self.max_period : -1][::-1]
        for place in np.flatnonzero(earlier == sequence.token):
            period = int(place) + 1
            looped = tokens[-period * self.repeats :]
            if len(looped) == period * self.repeats and np.array_equal(looped[period:], looped[:-period]):
                return StopReason(self.name, f"period {period}")
        return None
