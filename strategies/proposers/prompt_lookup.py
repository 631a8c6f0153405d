"""Drafts copied from earlier in the text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovdecode.plugin import require
from ovdecode.proposer import Law, Proposer, Proposing, continuations
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop


@register("prompt_lookup")
@dataclass(frozen=True)
class PromptLookup(Proposer):
    """What followed the last tokens when they last occurred in the prompt or the text.

    Of the n-grams that the sequence ends with, the longest one that occurred before counts, and of its
    occurrences the latest. The tokens after it are the draft: few after a short n-gram, which may be a chance, more
    the longer the text has been a copy. Without an occurrence the draft is empty.
    Source: Saxena 2023, "Prompt Lookup Decoding" (which takes the first occurrence); the n-gram case of Yang
    et al. 2023, "Inference with Reference: Lossless Acceleration of Large Language Models"; a length in proportion
    to the n-gram's: Oliaro et al. 2024, "SuffixDecoding: Extreme Speculative Decoding for Emerging AI Applications".

    Args:
        num_tokens: the longest draft; at least 1.
        max_ngram: the longest n-gram that is looked up; at least `min_ngram`.
        min_ngram: the shortest; at least 1.
        factor: a draft has at most this many tokens for each one of the n-gram, and at least one; above 0. As large
            as `num_tokens`, it leaves all drafts as long as they can be, as in transformers.
        num_drafts: how many different continuations are tried, the latest first, as alternatives; at least 1.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        >>> strategy = od.Speculative(proposer=od.PromptLookup())
        >>> model.generate([0, 1, 2, 0, 1], strategy, max_new_tokens=3).info["accepted"]
        2
    """

    aliases = ("ngram", "ngram_speculative", "prompt_lookup_decoding", "prompt_lookup_num_tokens")

    num_tokens: int = 16
    max_ngram: int = 16
    min_ngram: int = 1
    num_drafts: int = 1
    factor: float = 1.0

    def __post_init__(self) -> None:
        for parameter in ("num_tokens", "max_ngram", "min_ngram", "num_drafts"):
            require(self, parameter, getattr(self, parameter) >= 1, "at least 1")
        fits = self.max_ngram >= self.min_ngram
        require(self, "max_ngram", fits, f"at least `min_ngram`, which is {self.min_ngram}")
        require(self, "factor", 0 < self.factor < float("inf"), "a finite number above 0")

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        """Look the end of the sequence up in itself."""
        yield from ()
        return continuations(self.look_up(sequence.tokens))

    def look_up(self, tokens: NDArray[np.int64]) -> list[tuple[int, ...]]:
        """What followed the longest repeated end of `tokens`, shape (length,), the latest first."""
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # where an equal n-gram ends
        ngram = 1
        while len(ends) and ngram < self.max_ngram:
            longer = ends[ends >= ngram]
            longer = longer[tokens[longer - ngram] == tokens[-1 - ngram]]
            if not len(longer):
                break
            ends, ngram = longer, ngram + 1
        size = min(self.num_tokens, max(1, int(self.factor * ngram)))
        found: dict[tuple[int, ...], None] = {}
        for end in reversed(ends.tolist()) if ngram >= self.min_ngram else ():
            found[tuple(tokens[end + 1 :][:size].tolist())] = None
            if len(found) == self.num_drafts:
                break
        return list(found)
