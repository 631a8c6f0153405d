"""Which of several phrases a sequence of tokens contains, and which it has begun."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, NamedTuple

from ovdecode.fold import Fold
from ovdecode.vocabulary import Spelling

Phrase = tuple[int, ...]


class Progress(NamedTuple):
    """How far a sequence has come with some phrases.

    Attributes:
        met: for each phrase, whether the sequence contains it.
        begun: for each phrase not met, how many of its first tokens the sequence ends with; else 0.
        bank: how many tokens of phrases it has: those of phrases met, and of the one that is begun furthest.
    """

    met: tuple[bool, ...]
    begun: tuple[int, ...]
    bank: int

    def advance(self, phrases: tuple[Phrase, ...], token: int) -> Progress:
        """The progress after one token more."""
        met, begun = list(self.met), [0] * len(phrases)
        for place, phrase in enumerate(phrases):
            if not self.met[place]:
                length = _overlap(phrase, (*phrase[: self.begun[place]], token))
                met[place] = length == len(phrase)
                begun[place] = 0 if met[place] else length
        had = sum(len(phrase) for phrase, done in zip(phrases, met, strict=True) if done)
        return Progress(tuple(met), tuple(begun), had + max(begun))

    def helpful(self, phrases: tuple[Phrase, ...]) -> set[int]:
        """The tokens that begin or go on with a phrase that is not met."""
        missing = [(phrase, begun) for phrase, met, begun in zip(phrases, self.met, self.begun, strict=True) if not met]
        return {phrase[at] for phrase, begun in missing for at in (0, begun)}


def progress_with(phrases: tuple[Phrase, ...]) -> Fold[Progress]:
    """The progress of a sequence's generated tokens with these phrases, of which there is at least one."""
    nothing = Progress((False,) * len(phrases), (0,) * len(phrases), 0)
    return Fold(
        nothing,
        lambda state, sequence: state.advance(phrases, sequence.token),
        generated=True,
        key=("ovdecode.phrases", phrases),
    )


def read_phrases(given: Any) -> tuple[str | Phrase, ...]:
    """One text, or several texts and lists of token ids, with the lists as tuples; nothing for anything else."""
    try:
        return tuple(
            each if isinstance(each, str) else tuple(index(token) for token in each)
            for each in ((given,) if isinstance(given, str) else given)
        )
    except TypeError:
        return ()


def encoded(phrases: Iterable[str | Iterable[int]], spelling: Spelling) -> tuple[Phrase, ...]:
    """Each different phrase as tokens; a text as the tokens that it has alone."""
    return tuple(dict.fromkeys(tuple(spelling.encode(each) if isinstance(each, str) else each) for each in phrases))


def _overlap(phrase: Phrase, end: Phrase) -> int:
    """The length of the longest beginning of `phrase` that `end`, which is no longer, ends with."""
    return next(length for length in range(len(end), -1, -1) if end[len(end) - length :] == phrase[:length])
