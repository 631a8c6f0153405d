"""What watermarks share: a keyed hash of a token and those before it, and a detector with a p-value."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ovdecode.hashing import Hashes, absorb
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.sequence import Sequence


@dataclass(frozen=True)
class Detection:
    """What a detector found in a text.

    Attributes:
        score: mean over the scored tokens; NaN if there are none. What it is a mean of, and what is expected of a
            text without the mark, depends on the watermark.
        p_value: probability, over a random key, of a score at least as high for a text that was written without it.
        scored: how many tokens could be scored and were new evidence: repetitions are not.
    """

    score: float
    p_value: float
    scored: int


@dataclass(frozen=True)
class Watermark(LogitsProcessor):
    """A processor whose effect on the text can be found by whoever knows the key.

    A detector reads a `Sequence`, prompt and all, and judges its generated tokens. Where the prompt is not known, all
    counts as generated: `watermark.detect(model.vocabulary.root + generation.tokens)`, or `+ model.encode(text)`.

    Args:
        hashing_key: the secret, from 0 to 2^64 - 1.
        context_width: how many tokens before a token decide, with the key, what is done to it; at least 1.
            Narrower contexts survive more edits, wider ones repeat less and are harder to guess.
    """

    hashing_key: int = 15485863
    context_width: int = 1

    def __post_init__(self) -> None:
        require(self, "hashing_key", 0 <= self.hashing_key < 2**64, "a whole number from 0 to 2^64 - 1")
        require(self, "context_width", self.context_width >= 1, "a whole number of at least 1")

    @abstractmethod
    def detect(self, sequence: Sequence) -> Detection:
        """How likely the generated tokens of a sequence carry this mark, under this very configuration."""

    @cached_property
    def start(self) -> Hashes:
        """The hash of the key alone, shape (1,)."""
        return absorb(np.zeros(1, np.uint64), np.array([self.hashing_key], np.uint64))

    @cached_property
    def places(self) -> Hashes:
        """The hash of the key and each place of a context, shape (context_width,)."""
        return absorb(self.start, np.arange(self.context_width))

    def contexts(self, sequence: Sequence) -> NDArray[np.int64]:
        """What each generated token was preceded by, shape (scorable tokens, context_width).

        Tokens with less before them than a context, at the beginning of a text, are left out.
        """
        first = max(sequence.prompt_length, self.context_width)
        if first >= sequence.length:
            return np.empty((0, self.context_width), np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(sequence.tokens[:-1], self.context_width)
        return windows[first - self.context_width :]

    def hash_contexts(self, contexts: NDArray[np.int64]) -> Hashes:
        """One hash for each context, shape (n, context_width) to shape (n,): of its tokens, each with its place."""
        hashes: Hashes = np.bitwise_xor.reduce(absorb(self.places, contexts), axis=1)
        return hashes

    def fresh_context(self, sequence: Sequence) -> Hashes | None:
        """The hash of the last tokens, shape (1,), if they are a context for the first time in the generated text.

        None if not: what a context decides is random over the keys once only. A second time it would be a copy of
        the first, and the text no longer distributed as without the mark.
        """
        width, tokens = self.context_width, sequence.tokens
        if sequence.length < width:
            return None
        ends = np.arange(max(sequence.prompt_length, width), sequence.length)
        for back in range(1, width + 1):
            if len(ends):
                ends = ends[tokens[ends - back] == tokens[-back]]
        return None if len(ends) else self.hash_contexts(tokens[None, sequence.length - width :])

    def fresh(self, sequence: Sequence) -> tuple[Hashes, NDArray[np.int64]]:
        """The generated tokens whose context was fresh, after one hash for each one's context, both of shape (n,)."""
        contexts = self.contexts(sequence)
        hashes = self.hash_contexts(contexts)
        first = np.sort(np.unique(hashes, return_index=True)[1])
        return hashes[first], sequence.tokens[sequence.length - len(contexts) :][first]
