"""transformers: any of its logits processors as one of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.errors import ConfigurationError
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence


@register("hf_processor")
@dataclass(frozen=True)
class HFProcessor(LogitsProcessor):
    """What a `LogitsProcessor` object of transformers makes of the logits.

    Law: the object is called with all tokens of the sequence, prompt included, shape (1, length), and the logits,
    shape (1, vocab), -inf for every token that is no candidate; it gives the new logits. What is no candidate, or
    has a logit of -inf, stays impossible, whatever the object says of it.

    The object must be a function of these two: one that keeps a state of its own from call to call (transformers'
    classifier-free guidance and SynthID do) mixes the sequences up, as it cannot tell them apart. It has no spec
    string, as it is an object: this is for use from Python. Needs `torch`.

    Source: Hugging Face transformers, `LogitsProcessor`.

    Args:
        processor: called as `processor(input_ids, scores)`; of a list, make a chain.

    Example:
        >>> from ovdecode import HFProcessor
        >>> str(HFProcessor(lambda input_ids, scores: scores / 2))
        'hf_processor(function)'
    """

    processor: Callable[..., Any]

    def __post_init__(self) -> None:
        single = callable(self.processor) and not isinstance(self.processor, list)
        requirement = "one `LogitsProcessor` object of transformers, given in Python (no spec string, no list)"
        require(self, "processor", single, requirement)

    def __str__(self) -> str:
        return f"{self.name}({type(self.processor).__name__})"

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens with the logits that the object gives them."""
        torch = import_torch(self.name)
        scores = candidates.spread(sequence.vocabulary.size)
        answer = self.processor(
            torch.from_numpy(sequence.tokens[None].copy()),
            torch.from_numpy(scores[None].copy()),  # some processors write to what they are given
        )
        logits = answer[0].numpy().astype(scores.dtype, copy=False)[candidates.ids]
        return candidates.with_logits(np.where(candidates.logits > -np.inf, logits, -np.inf).astype(scores.dtype))


def import_torch(name: str) -> Any:
    """The module `torch`, which only the adapters of transformers' objects need.

    Raises:
        ConfigurationError: if it is not installed; the message names the plugin that asked.
    """
    try:
        return import_module("torch")
    except ImportError as error:
        raise ConfigurationError(
            f"`{name}` must have `torch`, which transformers' processors and criteria work with, but it is not "
            "installed; pip install torch"
        ) from error
