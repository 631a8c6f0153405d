"""The cells of an experiment: its grid in a fixed order, and the key of each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt


@dataclass(frozen=True)
class Versions:
    """What else than its own text decides the results of an experiment.

    Attributes:
        models: source to digest of the model's files.
        strategies, metrics: spec string to version of the method.
        stop: version of the stopping criterion.
    """

    models: dict[str, str]
    strategies: dict[str, str]
    metrics: dict[str, str] = field(default_factory=dict)
    stop: str = ""


@dataclass(frozen=True)
class Cell:
    """One thing to decode.

    Attributes:
        place: its number among the experiment's cells.
        key: a digest of everything that decides its result.
        model: the source of the model.
        prompt: the prompt's index.
        strategy: spec string.
        sample: which of the samples.
    """

    place: int
    key: str
    model: str
    prompt: int
    strategy: str
    sample: int


class Cells(Items[Cell]):
    """The whole grid in its order: by model, prompt, strategy and sample. Nothing is stored: a cell is made on demand.

    Strategies of one prompt are neighbours, so that in one batch they share the prompt's cache.

    Args:
        experiment: what to decode.
        prompts: its prompts, as read.
        versions: of what it is decoded with.
    """

    def __init__(self, experiment: Experiment, prompts: Items[Prompt], versions: Versions) -> None:
        self.experiment, self.prompts = experiment, prompts
        common = [experiment.seed, experiment.max_new_tokens, experiment.stop, versions.stop, experiment.ignore_eos]
        common += [experiment.precision, experiment.device]
        self._bases = [
            [_hash([common, versions.models[model], spec, versions.strategies[spec]]) for spec in experiment.strategies]
            for model in experiment.models
        ]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """How many models, prompts, strategies and samples."""
        plan = self.experiment
        return len(plan.models), len(self.prompts), len(plan.strategies), plan.samples

    def __len__(self) -> int:
        models, prompts, strategies, samples = self.shape
        return models * prompts * strategies * samples

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        _, prompts, strategies, samples = self.shape
        rest, sample = divmod(place, samples)
        rest, strategy = divmod(rest, strategies)
        model, prompt = divmod(rest, prompts)
        plan = self.experiment
        key = self._key(model, prompt, strategy, sample)
        return Cell(place, key, plan.models[model], prompt, plan.strategies[strategy], sample)

    def prompt_of(self, place: int) -> int:
        """The index of the prompt of the cell at a place."""
        return place // (len(self.experiment.strategies) * self.experiment.samples) % len(self.prompts)

    def keys(self) -> Iterator[str]:
        """The keys of all cells, in order."""
        models, prompts, strategies, samples = map(range, self.shape)
        return itertools.starmap(self._key, itertools.product(models, prompts, strategies, samples))

    def key(self, model: str, prompt: Prompt, strategy: str, sample: int) -> str:
        """The key of a cell, of whatever prompt, as this machine's versions make it."""
        bases = self._bases[self.experiment.models.index(model)]
        return _keyed(bases[self.experiment.strategies.index(strategy)], prompt, sample)

    def _key(self, model: int, prompt: int, strategy: int, sample: int) -> str:
        return _keyed(self._bases[model][strategy], self.prompts[prompt], sample)


def _keyed(base: Any, prompt: Prompt, sample: int) -> str:
    key = base.copy()
    key.update(prompt.digest + sample.to_bytes(8, "little"))
    return str(key.hexdigest())


def _hash(value: Any) -> Any:
    return blake2b(json.dumps(value).encode(), digest_size=16)
