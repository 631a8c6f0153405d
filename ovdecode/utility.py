"""Utilities say how good a text is if another is right: what minimum Bayes risk decoding maximises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.plugin import Plugin
from ovdecode.sequence import Sequence
from ovdecode.strategy import Request

Features: TypeAlias = Generator["Request | list[Request]", Any, list[Any]]
"""Features being made: it may ask the model, as a strategy does, and returns one object for each text."""


@dataclass(frozen=True)
class Utility(Plugin):
    """Compares a candidate with a reference; higher is better. The least one has a `compare` of two texts.

    What is worth computing once for a text (n-grams, an embedding) is its feature, and `compare` is handed features.
    """

    family: ClassVar[str] = "utility"

    def features(self, texts: Items[str], sequences: Items[Sequence]) -> Features:
        """What `compare` is to be handed for each text: by default the text itself.

        Args:
            texts: as a user is shown them.
            sequences: what they are the texts of, in the same order.
        """
        yield from ()
        return list(texts)

    @abstractmethod
    def compare(self, candidate: Any, reference: Any) -> float:
        """The utility of a candidate if the reference is right, from their features."""

    def aggregate(self, references: Items[Any], weights: NDArray[np.float64]) -> Any:
        """One feature that stands for all references; comparing with it stands for the expected utility.

        Args:
            references: their features.
            weights: shape (references,), with the sum 1.

        Raises:
            ConfigurationError: from a utility that has no such feature.
        """
        raise ConfigurationError(f"`aggregate` must be false with `{self.name}`, which can't aggregate references")
