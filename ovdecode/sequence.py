"""A sequence of tokens is a node of one tree: sharing, forking and taking back need no calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ovdecode.buffer import Buffer
from ovdecode.errors import TokenError

if TYPE_CHECKING:
    from ovdecode.vocabulary import Vocabulary

SequenceType = TypeVar("SequenceType", bound="Sequence")


class Told(NamedTuple):
    """What a model said after a sequence.

    Attributes:
        logits: shape (vocab,).
        logsumexp: log of the sum of their exponentials.
        blocks: what `Answer.blocks` says of them, shape (2, blocks), if it is known.
        weights: what `Answer.weights` says of them, shape (vocab,), if it is known.
    """

    logits: NDArray[np.float32]
    logsumexp: float
    blocks: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None


class Sequence:
    """An immutable sequence of tokens: a parent, and one token more.

    `sequence + token` is the child; `sequence + [4, 5]` the child's child; `sequence[:n]` the ancestor of
    length n, which is how tokens are taken back; holding a sequence twice forks it. Two sequences of the same
    tokens and prompt are the same object, so equality is identity and work on equal sequences is shared.
    Whatever is remembered about a sequence (key/value cache, folds) goes when the last reference to it goes.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_logprob",
        "_memo",
        "_told",
        "length",
        "parent",
        "prompt_length",
        "token",
        "vocabulary",
    )

    taken_back: ClassVar[tuple[int, ...]] = ()
    """Of a prompt made by `reopen`: the tokens that it lacks."""
    parent: Sequence | None
    token: int
    length: int
    prompt_length: int
    vocabulary: Vocabulary
    _buffer: Buffer
    _memo: dict[Hashable, Any] | None
    _told: Told | None
    _logprob: float | None

    @classmethod
    def root(cls, vocabulary: Vocabulary) -> Sequence:
        """The empty sequence. Use `Vocabulary.root`, of which there is one a vocabulary."""
        root = cls.__new__(cls)
        root.parent, root.token, root.length, root.prompt_length = None, -1, 0, 0
        root.vocabulary = vocabulary
        root._buffer = Buffer(np.empty(64, np.int64), 0)
        root._memo, root._told, root._logprob = None, None, 0.0
        return root

    def __add__(self, tokens: int | np.integer[Any] | Iterable[int]) -> Sequence:
        """The sequence with a token, or several, generated after it."""
        if isinstance(tokens, int | np.integer):
            return self._child(int(tokens), self.prompt_length)
        sequence = self
        for token in tokens:
            sequence = sequence._child(index(token), self.prompt_length)
        return sequence

    def extend_prompt(self, tokens: Iterable[int]) -> Sequence:
        """The sequence with tokens added that count as prompt, not as generated."""
        sequence = self
        for token in tokens:
            sequence = sequence._child(index(token), sequence.length + 1)
        return sequence

    def reopen(self, count: int) -> Sequence:
        """This prompt without its last `count` tokens, whose text is to be chosen again.

        What is generated after it must begin with the bytes that it lacks (`owed`). They are the prompt's, so that
        `ovdecode.text` leaves them out; the tokens that spell them count as generated.

        Args:
            count: at least 0; at least one token of the prompt must stay.

        Raises:
            TokenError: if tokens were generated already, or none would stay.
        """
        if self.generated_length or not 0 <= count < self.length:
            raise TokenError(
                f"`count` must be from 0 to {self.length - 1}, of a prompt alone, got {count} for {self!r}"
            )
        if count == 0:
            return self
        like = self[: self.length - count]
        assert like.parent is not None
        key = (like.parent, like.token, (*self.tokens[like.length :].tolist(), *self.taken_back))
        node = _nodes.get(key)
        if node is None:
            node = like._like(_Reopened)
            node.prompt_length, node._logprob = like.length, 0.0
            _nodes[key] = node
            node.taken_back = key[2]
        return node

    def apart(self) -> Sequence:
        """The same sequence as a node of its own, from which what others decode can't be seen.

        Sequences of the same tokens are one node, so the probability of tokens may be known because another task has
        asked about them. What is only supposed, such as a draft, is judged apart, or it would depend on who else runs.
        """
        node = self._like(type(self))
        if self.taken_back:
            node.taken_back = self.taken_back  # type: ignore[misc]
        return node

    def _like(self, kind: type[SequenceType]) -> SequenceType:
        node = kind.__new__(kind)
        node.parent, node.token, node.length, node.prompt_length = (
            self.parent,
            self.token,
            self.length,
            self.prompt_length,
        )
        node.vocabulary, node._buffer = self.vocabulary, self._buffer
        node._memo, node._told, node._logprob = None, None, self._logprob
        return node

    @property
    def owed(self) -> bytes:
        """Of a prompt made by `reopen`: the bytes that what is generated must begin with; none for any other."""
        return b"".join(map(self.vocabulary.spelling.token_bytes, self.taken_back))

    def _child(self, token: int, prompt_length: int) -> Sequence:
        key = (self, token, prompt_length)
        child = _nodes.get(key)
        if child is None:
            if not 0 <= token < self.vocabulary.size:
                raise TokenError(f"`token` must be between 0 and {self.vocabulary.size - 1}, got {token}")
            child = Sequence.__new__(Sequence)
            child.parent, child.token, child.length = self, token, self.length + 1
            child.prompt_length, child.vocabulary = prompt_length, self.vocabulary
            child._buffer = self._buffer.append(self.length, token)
            child._memo, child._told = None, None
            child._logprob = 0.0 if prompt_length > self.length else None
            _nodes[key] = child
        if child._logprob is None and self._told is not None and self._logprob is not None:
            child._logprob = self._logprob + float(self._told.logits[token]) - self._told.logsumexp
        return child

    def answered(
        self,
        logits: NDArray[np.float32],
        logsumexp: float,
        blocks: NDArray[np.float32] | None = None,
        weights: NDArray[np.float32] | None = None,
        child: Sequence | None = None,
    ) -> None:
        """Note what the model said here, so that children learn their probability.

        Args:
            logits, logsumexp, blocks, weights: see `Told`.
            child: one that exists already and is to learn it now.
        """
        self._told = Told(logits, logsumexp, blocks, weights)
        if child is not None:
            self._child(child.token, child.prompt_length)

    def deferred(self, tokens: NDArray[np.intp]) -> Callable[[int], Sequence]:
        """Makes the child of the token at a place of `tokens`, shape (n,), when it is asked for; the child knows its
        probability as if it were made now, though the logits noted here may be forgotten by then."""
        logprobs: NDArray[np.float64] | None = None
        if self._told is not None and self._logprob is not None:
            logprobs = self._logprob + self._told.logits[tokens].astype(np.float64) - self._told.logsumexp

        def child(place: int) -> Sequence:
            made = self._child(int(tokens[place]), self.prompt_length)
            if made._logprob is None and logprobs is not None:
                made._logprob = float(logprobs[place])
            return made

        return child

    def told(self, logits: NDArray[np.float32]) -> Told | None:
        """What the model said here, if it is known to be about these logits: the same array, or the same part of the
        same memory. The graph has read the whole row for it, so nobody else need."""
        known = self._told
        if known is None or known.logits is logits or known.logits.__array_interface__ == logits.__array_interface__:
            return known
        return None

    def logsumexp_of(self, logits: NDArray[np.float32]) -> float | None:
        """Log of the sum of the logits' exponentials, if it is known."""
        told = self.told(logits)
        return None if told is None else told.logsumexp

    def forget_answer(self) -> None:
        """Let go of what was noted by `answered`; what children learned from it stays."""
        self._told = None

    @property
    def logprob(self) -> float:
        """Log-probability of the generated tokens under the model itself, before any processor.

        NaN if the model was never asked at one of the positions (a method that forces a phrase, say).
        """
        return float("nan") if self._logprob is None else self._logprob

    @property
    def token_logprobs(self) -> tuple[float, ...]:
        """Log-probability of each generated token, as `logprob` is their sum; NaN where it is not known."""
        nodes = [self.prompt, *self.path(self.prompt_length)]
        with np.errstate(invalid="ignore"):  # after what is impossible, nothing can be told
            return tuple(np.diff([node.logprob for node in nodes]).tolist())

    @property
    def tokens(self) -> NDArray[np.int64]:
        """All token ids, prompt included; shape (length,), read-only."""
        return self._buffer.view(self.length)

    @property
    def generated(self) -> NDArray[np.int64]:
        """The token ids after the prompt; shape (length - prompt_length,), read-only."""
        return self.tokens[self.prompt_length :]

    @property
    def generated_length(self) -> int:
        """How many tokens come after the prompt."""
        return self.length - self.prompt_length

    @property
    def prompt(self) -> Sequence:
        """The sequence that decoding started from."""
        return self[: self.prompt_length]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(self.tokens.tolist())

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence: ...

    def __getitem__(self, at: int | slice) -> int | Sequence:
        """`sequence[-1]` is a token id; `sequence[:n]` is the ancestor of length n (its end may be negative)."""
        if not isinstance(at, slice):
            return int(self.tokens[at])
        start, stop, step = at.indices(self.length)
        if start != 0 or step != 1:
            raise IndexError("a sequence is cut at its end only: `sequence[:n]`; use `sequence.tokens` for others")
        node = self
        while node.length > stop:
            assert node.parent is not None
            node = node.parent
        return node

    def path(self, after: int) -> list[Sequence]:
        """The nodes of length `after` + 1 up to this one, in order."""
        nodes = []
        node = self
        while node.length > after:
            nodes.append(node)
            assert node.parent is not None
            node = node.parent
        nodes.reverse()
        return nodes

    def __repr__(self) -> str:
        return f"Sequence({self.tokens[: self.prompt_length].tolist()} + {self.generated.tolist()})"


class _Reopened(Sequence):
    """A prompt that lacks its end: a node beside the ancestor of the same tokens."""

    __slots__ = ("taken_back",)
    taken_back: tuple[int, ...]  # type: ignore[misc]


_nodes: WeakValueDictionary[tuple[Sequence, int, int | tuple[int, ...]], Sequence] = WeakValueDictionary()
"""By parent, token and prompt length; by the tokens that are lacking in the place of that, if any are."""
