"""The beginning: which tokens a text must, or must not, begin with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import index

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import TokenSet, ban


@register("forced_tokens")
@dataclass(frozen=True)
class ForcedTokens(LogitsProcessor):
    """Given tokens, in order, as the first that are generated.

    Law: when the i-th token after the prompt is due, every token but the i-th given is removed; before the first and
    after the last of them nothing changes. The token keeps its logit. If it is no candidate any more, nothing is left
    possible, and decoding ends with a `LogitsError` that says so: put this first in a chain.

    Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision" (Whisper's
    `forced_decoder_ids`), arXiv:2212.04356; Hugging Face transformers, `ForcedBOSTokenLogitsProcessor` (one token,
    with a logit of 0, so that a beam is not charged for it, after a sequence of length 1).

    Args:
        tokens: token ids in their order, at least one.
        length: how many tokens, the prompt's included, come before the first of them, at least 1; None for the prompt.
            Of those whose place is in the prompt nothing is asked.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, ForcedTokens, Vocabulary
        >>> prompt, row = Vocabulary(3).prompt([1]), Candidates(np.array([1.0, 3.0, 2.0]))
        >>> [ForcedTokens([2, 0])(row, prompt + generated).argmax() for generated in ([], [2], [2, 0])]
        [2, 0, 1]
    """

    aliases = ("forced_decoder_ids",)

    tokens: Iterable[int]
    length: int | None = None

    def __post_init__(self) -> None:
        try:
            tokens = tuple(map(index, self.tokens))
        except TypeError:
            tokens = ()
        require(self, "tokens", bool(tokens) and min(tokens) >= 0, "one or more token ids in order, such as [7, 5]")
        object.__setattr__(self, "tokens", tokens)
        require(self, "length", self.length is None or self.length >= 1, "a whole number of at least 1, or None")

    @cached_property
    def _array(self) -> NDArray[np.intp]:
        return np.array(self.tokens, np.intp)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The one token whose turn it is, or all after the last."""
        place = sequence.length - (sequence.prompt_length if self.length is None else self.length)
        due = self._array[place:][:1] if place >= 0 else ()
        return candidates.only(np.asarray(due)) if len(due) else candidates


@register("begin_suppress")
@dataclass(frozen=True)
class BeginSuppress(TokenSet):
    """All but the given tokens as the first that is generated.

    Law: directly after the prompt, the given tokens are impossible; later nothing changes.

    Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356
    (transformers' `begin_suppress_tokens`).

    Example:
        >>> import numpy as np
        >>> from ovdecode import BeginSuppress, Candidates, Vocabulary
        >>> prompt, row = Vocabulary(3).prompt([1]), Candidates(np.array([1.0, 3.0, 2.0]))
        >>> BeginSuppress([1])(row, prompt).argmax(), BeginSuppress([1])(row, prompt + 0).argmax()
        (2, 1)
    """

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates, without the given ones at the first place."""
        return candidates if sequence.generated_length else ban(candidates, self.ids)
