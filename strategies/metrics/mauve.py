"""MAUVE: how near the texts of a method are to those of people, as distributions."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from math import nan
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ovdecode.extras import from_extra
from ovdecode.forward import Forward
from ovdecode.metric import Question, Result, SetMetric, ask, raised, require_model
from ovdecode.model import Model
from ovdecode.plugin import one_of, require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.metrics.likelihood import pieces

Vector = NDArray[np.float64]
Pooling = Literal["last", "mean"]


@register("mauve")
@dataclass(frozen=True)
class Mauve(SetMetric):
    """MAUVE: how near generated texts are to the references, as distributions; from 0 to 1.

    Law: a text, with its prompt before it, is the model's own hidden state that enters the LM head (the state after
    its last token, or the mean over its tokens); features of texts and of references are clustered together, and
    MAUVE is the area under the curve of the two Kullback-Leibler divergences of their histograms from mixtures of
    both. Features need no other model, but figures of unlike models, or of the GPT-2 that papers use, are not to be
    compared; nor are those of unlike numbers of texts. It wants some thousand texts: with fewer than a few hundred it
    says little. Texts that are empty are left out.

    Source: Pillutla, Swayamdipta, Zellers, Thickstun, Welleck, Choi, Harchaoui 2021, "MAUVE: Measuring the Gap Between
    Neural Text and Human Text using Divergence Frontiers", arXiv:2102.01454; clusters and area by the authors'
    package `mauve-text` (GPL-3.0; it must be installed), whose defaults hold for what is no parameter here.

    Args:
        model: whose hidden states: a model or the source of one; None for the model that decoded.
        pooling: `last` or `mean`.
        max_tokens: how many tokens of a text and of a reference count, after the prompt, so that both have about one
            length; at least 1, or None for all.
        num_buckets: number of clusters; at least 2, or None for a tenth of the number of texts.
        scaling_factor: the constant c of the paper; above 0.

    Example:
        >>> from ovdecode import Mauve
        >>> Mauve(max_tokens=64)([])
        nan
    """

    higher_is_better: ClassVar[bool | None] = True
    model: Model | str | None = None
    pooling: Pooling = "last"
    max_tokens: int | None = 256
    num_buckets: int | None = None
    scaling_factor: float = 5.0

    def __post_init__(self) -> None:
        require_model(self)
        one_of("pooling", self.pooling, Pooling)
        require(self, "max_tokens", self.max_tokens is None or self.max_tokens >= 1, "at least 1, or none")
        require(self, "num_buckets", self.num_buckets is None or self.num_buckets >= 2, "at least 2, or none")
        require(self, "scaling_factor", 0 < self.scaling_factor < np.inf, "above 0 and finite")

    def __call__(self, results: Items[Result]) -> float:
        """The area; NaN for fewer than two texts, or fewer than two references."""
        references = {
            (result.prompt, result.prompt_tokens, reference): _as_generated(result, reference)
            for result in results
            for reference in result.references
        }
        texts = [result for result in results if result.text]
        right = [reference for reference in references.values() if reference.text]
        if min(len(texts), len(right)) < 2:
            return nan
        features = raised(ask([*texts, *right], self._feature, self.model))
        return self.area(np.stack(features[: len(texts)]), np.stack(features[len(texts) :]))

    def area(self, texts: Vector, references: Vector) -> float:
        """MAUVE of features.

        Args:
            texts: shape (texts, features).
            references: shape (references, features).
        """
        library = from_extra("metrics", "mauve", "`mauve`")
        buckets, scaling = self.num_buckets or "auto", self.scaling_factor
        found = library.compute_mauve(references, texts, num_buckets=buckets, mauve_scaling_factor=scaling)
        if np.array_equal(found.p_hist, found.q_hist):
            return 1.0  # the curve is then one point, out of whose corner the library makes 0.75
        return float(found.mauve)

    def _feature(self, prompt: Sequence, tokens: Items[int]) -> Question[Vector]:
        """The state after the last token, or the mean over all."""
        tokens = tokens[: self.max_tokens]
        if self.pooling == "last":
            answer = yield Forward(prompt + tokens, hidden=True)
            return np.asarray(answer.hidden[-1], np.float64)
        total: Vector | float = 0.0
        sequence = prompt
        for piece in pieces(tokens):
            sequence = sequence + piece
            answer = yield Forward(sequence, last=len(piece), hidden=True)
            total = total + answer.hidden.sum(axis=0, dtype=np.float64)  # (hidden,)
        return np.asarray(total / len(tokens))


def _as_generated(result: Result, reference: str) -> Result:
    """A reference as if it had been generated."""
    tokens = () if result.model is None else result.model.vocabulary.spelling.encode(reference)
    return replace(result, text=reference, tokens=tuple(tokens))
