"""DRY: the longer a repetition has become, the less likely it is to go on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.fold import Fold
from ovdecode.plugin import is_whole, require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import add_bias

_EXCESS = 50
"""What is longer than allowed by more than this counts as longer by this; it bounds the work at each token."""
_LARGEST = 1e30
"""Single precision holds a logit less this."""


class _State(NamedTuple):
    """What sequence breakers need to know of a text: its last bytes, and how many tokens come after the last one."""

    end: bytes = b""
    unbroken: int = 0


@register("dry")
@dataclass(frozen=True)
class Dry(LogitsProcessor):
    r"""Don't repeat yourself: a penalty on tokens that would extend a repetition, exponential in its length.

    Law: l_i becomes l_i - multiplier · base^(L - allowed_length), where L is the length of the longest run of
    tokens that ends the sequence, occurred before, and was followed by token i there; only if L reaches
    `allowed_length`. No run reaches across a sequence breaker, and a token that holds one is not penalised.
    The penalty is bounded by 1e30.

    Source: p-e-w (Philipp Emanuel Weidmann) 2024, "DRY: A modern repetition penalty that reliably prevents
    looping", oobabooga/text-generation-webui pull request 5677. There, a breaker given as a text is the one
    token that ends it after the letter "a"; here, as in koboldcpp and llama.cpp, it breaks wherever the text
    occurs, within a token or across several. Longer runs than 50 tokens count as 50 there; here the bound is 50
    above `allowed_length`, in llama.cpp there is none.

    Args:
        multiplier: above 0.
        base: at least 1.
        allowed_length: at least 1; what may be repeated without a penalty is shorter.
        sequence_breakers: texts or token ids, possibly none.
        window: look at that many last tokens only, at least 1; None looks at all.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Dry, Vocabulary
        >>> sequence = Vocabulary(4).prompt([0, 1, 2, 3]) + [0, 1]  # "0 1" is there, and 2 came after it
        >>> Dry(multiplier=1.0)(Candidates(np.array([1.0, 3.0, 2.0, 4.0])), sequence)
        Candidates({0: 1, 1: 3, 2: 1, 3: 4})
        >>> str(Dry(sequence_breakers=["\n", 2]))
        'dry:sequence_breakers=["\\n",2]'
    """

    aliases = ("dont_repeat_yourself",)

    multiplier: float = 0.8
    base: float = 1.75
    allowed_length: int = 2
    sequence_breakers: Iterable[str | int] = ("\n", ":", '"', "*")
    window: int | None = None

    def __post_init__(self) -> None:
        require(self, "multiplier", 0 < self.multiplier < math.inf, "a finite number above 0")
        require(self, "base", 1 <= self.base < math.inf, "a finite number of at least 1")
        require(self, "allowed_length", self.allowed_length >= 1, "a whole number of at least 1")
        requirement = "a whole number of at least 1, or None for all tokens"
        require(self, "window", self.window is None or self.window >= 1, requirement)
        given: Any = self.sequence_breakers
        listed = isinstance(given, Iterable) and not isinstance(given, str)
        breakers = tuple(given) if listed else (None,)
        sound = all(each >= 0 if is_whole(each) else isinstance(each, str) and each for each in breakers)
        require(self, "sequence_breakers", sound, 'texts or token ids, such as ["\\n", 5], or an empty list')
        object.__setattr__(self, "sequence_breakers", breakers)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, those that extend a repetition with lower logits."""
        tokens = sequence.tokens if self.window is None else sequence.tokens[-self.window :]
        state = self._state(sequence)
        lengths = repeats(tokens, min(state.unbroken, self.allowed_length + _EXCESS))
        ends = (lengths >= self.allowed_length).nonzero()[0]
        longest: dict[int, int] = {}
        for token, length in zip(tokens[ends + 1].tolist(), lengths[ends].tolist(), strict=True):
            longest[token] = max(length, longest.get(token, 0))
        spelling = sequence.vocabulary.spelling
        extending = [token for token in longest if not self._breaks(token, spelling.token_bytes(token))]
        if not extending:
            return candidates
        excess = np.array([longest[token] - self.allowed_length for token in extending])
        with np.errstate(over="ignore"):
            penalties = np.minimum(self.multiplier * float(self.base) ** excess, _LARGEST)
        return add_bias(candidates, np.array(extending), -penalties)

    @cached_property
    def _texts(self) -> tuple[bytes, ...]:
        return tuple(each.encode() for each in self.sequence_breakers if isinstance(each, str))

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(int(each) for each in self.sequence_breakers if not isinstance(each, str))

    def _breaks(self, token: int, piece: bytes, before: bytes = b"") -> bool:
        """Whether a token is a breaker, holds the text of one, or completes one that the bytes before it began."""
        return token in self._ids or any(text in _last(before, len(text) - 1) + piece for text in self._texts)

    @cached_property
    def _state(self) -> Fold[_State]:
        reach = max(map(len, self._texts), default=1) - 1

        def step(state: _State, sequence: Sequence) -> _State:
            piece = sequence.vocabulary.spelling.token_bytes(sequence.token)
            broken = self._breaks(sequence.token, piece, state.end)
            return _State(_last(state.end + piece, reach), 0 if broken else state.unbroken + 1)

        return Fold(_State(), step, key=("ovdecode.dry", self.sequence_breakers))


def repeats(tokens: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """For each token but the last, how many tokens up to it are the same as at the end; at most `most`.

    Example:
        >>> repeats(np.array([0, 1, 2, 1, 0, 1]), most=5).tolist()
        [0, 2, 0, 1, 0]
    """
    lengths = np.zeros(len(tokens[1:]), np.intp)
    ends = np.arange(len(lengths))
    for length in range(min(most, len(lengths))):
        ends = ends[ends.searchsorted(length) :]
        ends = ends[tokens[ends - length] == tokens[-1 - length]]
        if not len(ends):
            break
        lengths[ends] = length + 1
    return lengths


def _last(data: bytes, count: int) -> bytes:
    return data[max(len(data) - count, 0) :]
