"""Limits on the length: no end of the text before its time, and none too late."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.bias import ban, sort_tokens


@register("min_new_tokens")
@dataclass(frozen=True)
class MinNewTokens(LogitsProcessor):
    """No end-of-text token until a number of tokens has been generated.

    Law: the tokens of `sequence.vocabulary.eos_token_ids` are impossible while fewer than `count` tokens come
    after the prompt; afterwards nothing changes. Put it before the truncations, which might leave EOS alone.

    Source: Hugging Face transformers, `MinNewTokensLengthLogitsProcessor`. openvino.genai gives the EOS tokens a
    logit of 0 instead, which does not make them impossible.

    Args:
        count: at least 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, MinNewTokens, Vocabulary
        >>> prompt, row = Vocabulary(3, eos_token_ids=[1]).prompt([0]), Candidates(np.array([1.0, 3.0, 2.0]))
        >>> MinNewTokens(1)(row, prompt).argmax(), MinNewTokens(1)(row, prompt + 2).argmax()
        (2, 1)
    """

    aliases = ("min_tokens",)

    count: int

    def __post_init__(self) -> None:
        require(self, "count", self.count >= 1, "a whole number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates, without EOS while it is too early."""
        return candidates if sequence.generated_length >= self.count else ban(candidates, end_tokens(sequence))


@register("min_length")
@dataclass(frozen=True)
class MinLength(LogitsProcessor):
    """No end-of-text token until the sequence, prompt included, has a length.

    Law: the tokens of `sequence.vocabulary.eos_token_ids` are impossible while the sequence has fewer than
    `length` tokens; afterwards nothing changes. Put it before the truncations, which might leave EOS alone.

    Source: Hugging Face transformers, `MinLengthLogitsProcessor`.

    Args:
        length: at least 1.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, MinLength, Vocabulary
        >>> prompt, row = Vocabulary(3, eos_token_ids=[1]).prompt([0]), Candidates(np.array([1.0, 3.0, 2.0]))
        >>> MinLength(2)(row, prompt).argmax(), MinLength(2)(row, prompt + 2).argmax()
        (2, 1)
    """

    length: int

    def __post_init__(self) -> None:
        require(self, "length", self.length >= 1, "a whole number of at least 1")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates, without EOS while it is too early."""
        return candidates if sequence.length >= self.length else ban(candidates, end_tokens(sequence))


@register("exponential_length_decay")
@dataclass(frozen=True)
class ExponentialLengthDecay(LogitsProcessor):
    """The logits of the end-of-text tokens, rising exponentially once a number of tokens has been generated.

    Law: for t > start generated tokens, the logit l of every EOS token becomes l + |l| · (factor^(t - start) - 1),
    where the last factor is bounded by 1e30. A logit of 0 stays: the law depends on where the logits' zero lies.
    A factor below 1 puts the end off.

    Source: Hugging Face transformers, `ExponentialDecayLengthPenalty`.

    Args:
        start: number of generated tokens up to which nothing changes, at least 0.
        factor: above 0; 1.01 to 1.5 is usual.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, ExponentialLengthDecay, Vocabulary
        >>> sequence = Vocabulary(3, eos_token_ids=[1]).prompt([0]) + [2, 2]
        >>> ExponentialLengthDecay(start=0, factor=2.0)(Candidates(np.array([1.0, -1.0, 2.0])), sequence)
        Candidates({0: 1, 1: 2, 2: 2})
    """

    start: int
    factor: float

    def __post_init__(self) -> None:
        require(self, "start", self.start >= 0, "a whole number of at least 0")
        require(self, "factor", 0 < self.factor < math.inf, "a finite number above 0")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, EOS with another logit once it is time."""
        late = sequence.generated_length - self.start
        if late <= 0:
            return candidates
        places = candidates.positions(end_tokens(sequence))
        before = candidates.logits[places]
        growth = math.expm1(min(late * math.log(self.factor), math.log(1e30)))
        return candidates.replaced(places, before + np.where(before > -np.inf, np.abs(before), 0) * growth)


@register("forced_eos")
@dataclass(frozen=True)
class ForcedEos(LogitsProcessor):
    """An end-of-text token at the last place of a text that has not ended by then.

    Law: when the next token would be the `count`-th, all but the last tokens are removed; at any other place
    nothing changes. If none of them is a candidate any more, nothing is left possible, and decoding ends with a
    `LogitsError` that says so. Where several are possible, each keeps its logit.

    Source: Hugging Face transformers, `ForcedEOSTokenLogitsProcessor` (which gives them all the same logit);
    its `max_length` is `count` with `prompt`.

    Args:
        count: the length at which the text must have ended, at least 1; bound the generation by as much.
        prompt: whether the prompt's tokens count.
        tokens: the ids one of which must come last, kept sorted; None takes the vocabulary's EOS tokens, and
            leaves a vocabulary without one alone.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, ForcedEos, Vocabulary
        >>> prompt, row = Vocabulary(3, eos_token_ids=[0]).prompt([2]), Candidates(np.array([1.0, 3.0, 2.0]))
        >>> ForcedEos(2)(row, prompt).argmax(), ForcedEos(2)(row, prompt + 1).argmax()
        (1, 0)
    """

    count: int
    prompt: bool = False
    tokens: Iterable[int] | None = None

    def __post_init__(self) -> None:
        require(self, "count", self.count >= 1, "a whole number of at least 1")
        if self.tokens is not None:
            sort_tokens(self, self.tokens)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates, only those that may come last when it is time."""
        tokens = end_tokens(sequence) if self.tokens is None else np.array(self.tokens, np.intp)
        length = sequence.length if self.prompt else sequence.generated_length
        return candidates.only(tokens) if length == self.count - 1 and len(tokens) else candidates


def end_tokens(sequence: Sequence) -> NDArray[np.intp]:
    """The tokens that end a text in the sequence's vocabulary; possibly none."""
    ends = sequence.vocabulary.eos_token_ids
    return np.fromiter(ends, np.intp, len(ends))
