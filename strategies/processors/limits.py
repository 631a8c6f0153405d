"""Limits: what may not come yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.plugin import is_whole, require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import ban


@register("min_new_tokens")
@dataclass(frozen=True)
class MinNewTokens(LogitsProcessor):
    """No end-of-text token until a number of tokens has been generated.

    Law: the tokens of `sequence.vocabulary.eos_token_ids` are impossible while fewer than `count` tokens come
    after the prompt; afterwards nothing changes. Put it before the truncations, which might leave EOS alone.

    Source: Hugging Face transformers, `MinNewTokensLengthLogitsProcessor`.

    Args:
        count: at least 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, MinNewTokens, Vocabulary
        >>> prompt, row = Vocabulary(3, eos_token_ids=[1]).prompt([0]), Candidates(np.array([1.0, 3.0, 2.0]))
        >>> MinNewTokens(1)(row, prompt).argmax(), MinNewTokens(1)(row, prompt + 2).argmax()
        (2, 1)
    """

    count: int

    def __post_init__(self) -> None:
        require(
            self,
            "count",
            is_whole(self.count) and self.count >= 1,
            "a whole number of at least 1",
        )

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates, without EOS while it is too early."""
        ends = sequence.vocabulary.eos_token_ids
        if sequence.generated_length >= self.count or not ends:
            return candidates
        return ban(candidates, np.fromiter(ends, np.intp, len(ends)))
