"""Embedding: texts compared by what the model makes of them."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovdecode.forward import Forward
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.utility import Features, Utility

Vector = NDArray[np.float64]


@register("embedding")
@dataclass(frozen=True)
class Embedding(Utility):
    """Cosine similarity of two texts' mean hidden states in the model itself; from -1 to 1.

    Law: a text is the mean, over its generated tokens, of the state that enters the LM head after each of
    them (after the prompt, if nothing was generated); the utility is the cosine of the angle between two. It
    costs one more inference, for all texts together, and no other model. Aggregated, the reference is the
    mean of the references' vectors of length 1: the scores are exactly the expected ones.

    Source: Reimers and Gurevych 2019, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
    arXiv:1908.10084 (mean pooling and cosine), with the decoding model's own states as in Su et al. 2022, "A
    Contrastive Framework for Neural Text Generation", arXiv:2202.06417. States of a decoder lie close
    together, so that differences are small; only their order matters here.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Embedding
        >>> Embedding().compare(np.array([0.6, 0.8]), np.array([0.0, 1.0]))
        0.8
    """

    def features(self, texts: Items[str], sequences: Items[Sequence]) -> Features:
        """The mean state of each text, at length 1."""
        answers = yield [Forward(one, last=max(1, one.generated_length), hidden=True) for one in sequences]
        means = [answer.hidden.mean(axis=0, dtype=np.float64) for answer in answers]  # each (hidden,)
        return [mean / max(float(np.linalg.norm(mean)), np.finfo(np.float64).tiny) for mean in means]

    def compare(self, candidate: Vector, reference: Vector) -> float:
        """Cosine of the angle between two vectors of length 1."""
        return float(candidate @ reference)

    def aggregate(self, references: Items[Vector], weights: NDArray[np.float64]) -> Vector:
        """The weighted mean; cosine similarity is linear in it."""
        mean: Vector = weights @ np.stack(references)
        return mean
