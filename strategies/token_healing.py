"""Token healing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.errors import DeadEnd
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategy import Decoding, Strategy
from ovdecode.text import owed
from ovdecode.vocabulary import Vocabulary


@register("token_healing")
@dataclass(frozen=True)
class TokenHealing(Strategy):
    """Another strategy, free to choose the prompt's last tokens again: the prompt's text decides, not its borders.

    Law: the last tokens are taken back, and the other strategy goes on from what stays. While their bytes R are not
    spelled, its candidates are the tokens that begin with what is left of R, or with which what is left of R begins
    (if the vocabulary can spell the rest); from then on, all. It chooses with its own probabilities, normalised at each
    step over these: that is conditioned token by token on the text's not departing from R, and not on the text as a
    whole. A processor, of the other strategy or of one inside it, that would leave none of the tokens that spell R is
    left out there: R is given, not its to refuse.
    Source: Lundberg 2023, "The Art of Prompt Design: Prompt Boundaries and Token Healing"; Athiwaratkun et al. 2024,
    "Token Alignment via Character Matching for Subword Completion", arXiv:2403.08688. transformers takes back one
    token, and allows those that begin with all of it.

    The text of the result goes on where the prompt's text ended, and text that stops or constrains is looked for
    there. Its tokens, their number and their log-probability are of all that was generated, the tokens chosen again
    included; `taken_back` says how many of the prompt's tokens they replace. Special tokens stay, and the first token.

    Args:
        strategy: what decodes.
        num_tokens: how many tokens are taken back, at least 1; None for as many as may be parts of one token: the
            most whose text together some token begins with.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> row = [0.0] * 53
        >>> row[26], row[52] = 1.0, 2.0                         # tokens 0, 26 and 52 are "a", "a1" and "a2"
        >>> model = od.Model(od.TableRunner({(): row}))
        >>> generation = model.generate([1, 0], od.TokenHealing(), max_new_tokens=1)
        >>> generation.tokens, generation.text, generation.taken_back
        ((52,), '2', 1)
    """

    strategy: Strategy = field(default=Greedy())
    num_tokens: int | None = None

    def __post_init__(self) -> None:
        some = self.num_tokens is None or self.num_tokens >= 1
        require(self, "num_tokens", some, "a whole number of at least 1, or none")

    @property
    def commits(self) -> bool:
        """Whether the other strategy does."""
        return self.strategy.commits

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Take back, and let the other strategy go on."""
        if stop(prompt):
            return prompt
        inner = replace(self.strategy, processors=self.processors | self.strategy.processors)
        return (yield from _healed(inner).decode(prompt.reopen(self._count(prompt)), stop, rng))

    def _count(self, prompt: Sequence) -> int:
        """How many of the prompt's last tokens are taken back."""
        spelling, words = prompt.vocabulary.spelling, _words(prompt.vocabulary)
        fixed = spelling.special_ids | prompt.vocabulary.eos_token_ids
        count, text = 0, b""
        for number, token in enumerate(prompt.tokens[:0:-1].tolist(), start=1):
            text = spelling.token_bytes(token) + text
            if token in fixed or (len(text) > words.longest if self.num_tokens is None else number > self.num_tokens):
                break
            if self.num_tokens is not None or words.beginning_with(text).size:
                count = number
        return count


def _healed(strategy: Strategy) -> Strategy:
    """The strategy with all its processors healed, and those of every strategy inside it."""
    given = {each.name: getattr(strategy, each.name) for each in fields(strategy) if each.init}
    inner = {name: _healed(value) for name, value in given.items() if isinstance(value, Strategy)}
    return replace(strategy, processors=Healing(strategy.processors), **inner)


@dataclass(frozen=True)
class Healing(LogitsProcessor):
    """Other processors, on the tokens that spell what a reopened prompt lacks; once it is spelled, on all."""

    name: ClassVar[str] = "healing"
    processors: LogitsProcessor

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """What the processors leave of the candidates that go on with the bytes owed, or beyond them; one that would
        leave nothing is left out."""
        rest = owed(sequence)
        if not rest:
            return self.processors(candidates, sequence)
        candidates = candidates.only(_words(sequence.vocabulary).spelling(rest))
        for processor in self.processors.stages:
            try:
                left = processor(candidates, sequence)
            except DeadEnd:
                continue
            if np.any(left.logits > -np.inf):
                candidates = left
        return candidates


class _Words:
    """The tokens of a vocabulary that are text, in the order of their bytes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        markup = vocabulary.spelling.special_ids | vocabulary.eos_token_ids
        pairs = [(vocabulary.spelling.token_bytes(token), token) for token in range(vocabulary.size)]
        pairs = sorted(pair for pair in pairs if pair[0] and pair[1] not in markup)
        self.words = [word for word, _ in pairs]
        self.ids = np.array([token for _, token in pairs], np.intp)
        self.longest = max(map(len, self.words), default=0)

    def beginning_with(self, text: bytes) -> NDArray[np.intp]:
        """The ids of tokens that begin with a text, or are it."""
        start = bisect_left(self.words, text)
        return self.ids[start : bisect_right(self.words, text, start, key=lambda word: word[: len(text)])]

    def spelling(self, text: bytes) -> NDArray[np.intp]:
        """The ids of tokens with which a text, or one that begins with it, can be spelled."""
        possible = [self.beginning_with(text[start:]).size > 0 for start in range(len(text))]  # from there to the end
        for start in range(len(text) - 1, 0, -1):
            ends = (end for end in range(start + 1, len(text)) if possible[end])
            possible[start] = possible[start] or any(self._equal(text[start:end]).size for end in ends)
        parts = (self._equal(text[:end]) for end in range(1, len(text)) if possible[end])
        return np.concatenate([self.beginning_with(text), *parts])

    def _equal(self, text: bytes) -> NDArray[np.intp]:
        return self.ids[bisect_left(self.words, text) : bisect_right(self.words, text)]


_vocabularies: WeakKeyDictionary[Vocabulary, _Words] = WeakKeyDictionary()


def _words(vocabulary: Vocabulary) -> _Words:
    if vocabulary not in _vocabularies:
        _vocabularies[vocabulary] = _Words(vocabulary)
    return _vocabularies[vocabulary]
