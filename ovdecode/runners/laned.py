"""What runners with a cache share: one lane for plain requests, and one, made at first use, for hidden states."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Items
from functools import cached_property
from typing import ClassVar, Generic, Protocol, TypeVar

from ovdecode.errors import ConfigurationError
from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import ModelRunner, Pending, Precision
from ovdecode.runners.model_file import ModelSource, graph_of
from ovdecode.runners.residual import residual_stream
from ovdecode.runners.truncated_graph import truncated


class Lane(Protocol):
    """A compiled graph with a cache of its own."""

    @property
    def in_use(self) -> int:
        """Units of cache that living sequences hold."""

    def missing(self, request: Forward) -> int:
        """How many of the sequence's tokens are not in the cache."""

    def fits(self, requests: Items[Forward]) -> int:
        """How many of these, in order, the cache can hold together."""

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start one inference for all requests."""


LaneType = TypeVar("LaneType", bound=Lane)


class LanedRunner(ModelRunner, Generic[LaneType]):
    """Requests for hidden states run on a graph and a cache of their own, so that they change nobody else's bits.

    A runner says in `_lane` how a lane is made, before it calls this constructor with what such a lane needs.

    Args:
        model: a language model, which is not changed, or the file of one.
        precision: the named precision that runs.
        context_length: the longest sequence, in tokens.
    """

    incremental: ClassVar[bool] = True

    def __init__(self, model: ModelSource, precision: Precision, context_length: int | None) -> None:
        self._model, self.precision, self.context_length = model, precision, context_length
        self._lanes = {False: self._lane(hidden=False)}

    @abstractmethod
    def _lane(self, hidden: bool) -> LaneType:
        """A new lane, for hidden states or for plain requests."""

    @abstractmethod
    def _like(self, model: ModelSource) -> ModelRunner:
        """A runner of another model, made as this one was."""

    def truncated(self, layer: int) -> ModelRunner:
        """A runner like this one of the model without the layers above one of them, counted from 1."""
        return self._like(truncated(graph_of(self._model), layer))

    def prepare(self, requests: Items[Forward]) -> None:
        """Make the lane for hidden states, if one of these wants them."""
        if any(not request.plain for request in requests):
            self._ready(True)

    def submit(self, requests: Items[Forward]) -> Pending:
        """Start one inference for all plain requests, and one for all that want hidden states."""
        self._check(requests)
        if requests and all(request.plain for request in requests):
            return self._lanes[False].submit(requests)
        lanes = {rich: self._ready(rich) for rich in sorted({not request.plain for request in requests})}
        pending = []
        for rich, lane in lanes.items():
            places = [place for place, request in enumerate(requests) if request.plain is not rich]
            pending.append((places, lane.submit([requests[place] for place in places])))

        def answers() -> list[Answer]:
            found = {place: answer for places, wait in pending for place, answer in zip(places, wait(), strict=True)}
            return [found[place] for place in range(len(requests))]

        return answers

    def missing(self, request: Forward) -> int:
        """How many tokens are not in the cache."""
        lane = self._lanes.get(not request.plain)
        return request.sequence.length if lane is None else lane.missing(request)

    def room(self, requests: Items[Forward]) -> int:
        """How many of these the cache can hold together."""
        if all(request.plain for request in requests):
            return self._lanes[False].fits(requests)
        count = len(requests)
        for rich, lane in self._lanes.items():
            places = [place for place, request in enumerate(requests) if request.plain is not rich]
            fit = lane.fits([requests[place] for place in places])
            count = min(count, places[fit] if fit < len(places) else count)
        return count

    @property
    def cache_in_use(self) -> int:
        """Units of cache (pages or rows) that hold keys and values of living sequences."""
        return sum(lane.in_use for lane in self._lanes.values())

    def _ready(self, hidden: bool) -> LaneType:
        if hidden not in self._lanes:
            self._lanes[hidden] = self._lane(hidden)
        return self._lanes[hidden]

    def _check(self, requests: Items[Forward]) -> None:
        for request in requests:
            if request.sequence.vocabulary.size > self.vocab_size:
                raise ConfigurationError(
                    f"`model` must have the tokens of the sequence: it has {self.vocab_size}, the sequence's "
                    f"vocabulary has {request.sequence.vocabulary.size}"
                )
            if request.layers and not set(request.layers) <= set(range(self.num_layers + 1)):
                raise ConfigurationError(f"`layers` must be from 0 to {self.num_layers}, got {request.layers}")

    @cached_property
    def num_layers(self) -> int:
        """How many layers the model has."""
        return len(residual_stream(graph_of(self._model))) - 1
