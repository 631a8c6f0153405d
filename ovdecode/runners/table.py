"""A model that is a transition table: logits are known by heart, so distributions can be enumerated exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ovdecode.errors import ConfigurationError
from ovdecode.forward import Answer, Forward
from ovdecode.numerics import logsumexp
from ovdecode.runners.base import ModelRunner

Table = Mapping[tuple[int, ...], ArrayLike] | Callable[[tuple[int, ...]], ArrayLike] | ArrayLike


class TableRunner(ModelRunner):
    """Next-token logits looked up by the last tokens.

    Args:
        table: one of: an array, shape (vocab, vocab), the row of the last token (an LM of order one); a mapping from
            a tuple of tokens to a row, where the longest tuple that the sequence ends with counts and `()` is for all
            others; a function from the tuple of all tokens to a row.
        context_length: as of a real model.
        hidden: a function from the tuple of all tokens to a hidden state, for methods that ask for one.
        layers: layer number to a table of the logits read out there.

    Example:
        >>> from ovdecode.vocabulary import Vocabulary
        >>> runner = TableRunner({(): [0.0, 1.0], (1,): [3.0, 0.0]})
        >>> runner.forward([Forward(Vocabulary(2).prompt([0, 1]), last=2)])[0].logits
        array([[0., 1.],
               [3., 0.]], dtype=float32)
    """

    name = "table"

    def __init__(
        self,
        table: Table,
        *,
        context_length: int | None = None,
        hidden: Callable[[tuple[int, ...]], ArrayLike] | None = None,
        layers: Mapping[int, Table] | None = None,
    ) -> None:
        self._look_up = _lookup(table)
        self._hidden = hidden
        self._layers = {layer: _lookup(rows) for layer, rows in (layers or {}).items()}
        self.vocab_size = len(self._look_up((0,)))
        self.context_length = context_length

    @property
    def num_layers(self) -> int:
        """One more than the last of those given."""
        return max(self._layers, default=-1) + 1

    def truncated(self, layer: int) -> TableRunner:
        """The table of the logits read out after a layer, as a model."""
        self._check_layers({layer})
        return TableRunner(self._layers[layer], context_length=self.context_length)

    def recompute(self, tokens: NDArray[np.int64], request: Forward) -> Answer:
        """Look up the row of each wanted position."""
        ends = range(len(tokens) - request.rows + 1, len(tokens) + 1)
        prefixes = [tuple(tokens[:end].tolist()) for end in ends]
        logits = _rows(self._look_up, prefixes, self.vocab_size)
        hidden = None
        if request.hidden:
            if self._hidden is None:
                raise ConfigurationError("`hidden` must be given to this `TableRunner` to be asked for")
            hidden = _rows(self._hidden, prefixes, 1)
        self._check_layers(set(request.layers))
        layers = {layer: _rows(self._layers[layer], prefixes, self.vocab_size) for layer in request.layers}
        sums = np.array([logsumexp(row) for row in logits], np.float32)
        sums.flags.writeable = False
        return Answer(logits, sums, hidden, layers or None)

    def _check_layers(self, wanted: set[int]) -> None:
        missing = wanted - set(self._layers)
        if missing:
            raise ConfigurationError(
                f"`layers` must be among {sorted(self._layers)} of this table, got {sorted(missing)}"
            )


def _lookup(table: Table) -> Callable[[tuple[int, ...]], NDArray[np.float32]]:
    if callable(table):
        return lambda tokens: np.asarray(table(tokens), np.float32)
    if isinstance(table, Mapping):
        rows = {key: np.asarray(row, np.float32) for key, row in table.items()}

        def longest(tokens: tuple[int, ...]) -> NDArray[np.float32]:
            for start in range(len(tokens)):
                if tokens[start:] in rows:
                    return rows[tokens[start:]]
            if () not in rows:
                raise ConfigurationError(f"`table` must have a row for the end of {tokens} or for `()`, it has neither")
            return rows[()]

        return longest
    matrix = np.asarray(table, np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ConfigurationError(f"`table` must have the shape (vocab, vocab), got {matrix.shape}")
    return lambda tokens: matrix[tokens[-1]]


def _rows(
    look_up: Callable[[tuple[int, ...]], ArrayLike], prefixes: list[tuple[int, ...]], width: int
) -> NDArray[np.float32]:
    rows = np.array([look_up(prefix) for prefix in prefixes], np.float32).reshape(
        len(prefixes), -1 if prefixes else width
    )
    rows.flags.writeable = False
    return rows
