"""What one inference is fed: the new tokens of many sequences, laid out in one row."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.runners.graph import WANTED_ROWS


class Feed:
    """The inputs of one inference of a paged model, gathered sequence by sequence.

    Attributes:
        wanted: of which tokens the logits are wanted.
    """

    def __init__(self) -> None:
        self.wanted: list[int] = []
        self._tokens: list[int] = []
        self._positions: list[int] = []
        self._pasts: list[int] = []
        self._begins = [0]
        self._tables: list[NDArray[np.int32]] = []

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self._tokens)

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return len(self._pasts)

    def add(self, tokens: list[int], past: int, table: NDArray[np.int32], rows: int) -> None:
        """Take in a sequence: its new tokens, how many come before them, its pages, and of how many the logits are
        wanted, the last ones."""
        self._tokens += tokens
        end = len(self._tokens)
        if len(tokens) == 1:
            self._positions.append(past)
        else:
            self._positions += range(past, past + len(tokens))
        self._pasts.append(past)
        self._begins.append(end)
        self._tables.append(table)
        self.wanted += range(end - rows, end)

    def fill(self, tokens: int, table: NDArray[np.int32]) -> None:
        """Make up for the tokens that are missing with one sequence, of which nothing is wanted.

        Where any sequence brings several tokens, attention is split among threads by sequences, however few there are.
        """
        missing = tokens - len(self)
        if missing > 0:
            self.add([0] * missing, 0, table, 0)

    def inputs(self, rows: int) -> dict[str, NDArray[Any]]:
        """The arrays by name; of at least so many tokens, the logits are asked for."""
        wanted = self.wanted + [len(self._tokens) - 1] * (rows - len(self.wanted))
        return {
            "input_ids": np.array(self._tokens, np.int64),  # (tokens,)
            "position_ids": np.array(self._positions, np.int64),  # (tokens,)
            "past_lens": np.array(self._pasts, np.int32),  # (sequences,)
            "subsequence_begins": np.array(self._begins, np.int32),  # (sequences + 1,)
            "block_indices": np.concatenate(self._tables),  # (pages,)
            "block_indices_begins": np.array([0, *accumulate(map(len, self._tables))], np.int32),  # (sequences + 1,)
            "max_context_len": np.array(max(self._positions) + 1, np.int32),  # ()
            WANTED_ROWS: np.array(wanted, np.int64),  # (rows,)
        }
