"""An experiment as data: which models, which methods, which prompts, how many samples, and what to measure."""

from __future__ import annotations

import itertools
import json
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import MISSING, asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.prompts import Prompt, Prompts, read_text
from ovdecode.experiment.yaml import read_yaml
from ovdecode.plugin import Plugin, is_whole, one_of
from ovdecode.registry import lookup, unknown
from ovdecode.runners.base import Precision
from ovdecode.spec import parameters, parse


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the results of a comparison; the same in YAML and in Python.

    Args:
        strategies: spec strings, strategies, or mappings of `name` and parameters. In a mapping, a list for a
            parameter that takes one value is a grid: `{name: sampling, temperature: [0.5, 0.8]}` is two strategies.
        prompts: texts, the name of a file, or a mapping; see `Prompts`.
        models: sources, as `ovdecode.load` takes them.
        samples: how often each strategy decodes each prompt.
        seed, max_new_tokens, ignore_eos: as of a task.
        stop: spec of a further criterion to stop at.
        metrics: spec strings, or mappings as for strategies, of what to measure.
        precision, device, threads: as `ovdecode.load` takes them. `fast` is faster, but in it results may depend on
            what they ran beside.

    Raises:
        ConfigurationError: if a value makes no sense.
        UnknownNameError: for a method, parameter or metric that does not exist; the message says which come near.

    Example:
        >>> grid = {"name": "sampling", "temperature": [0.5, 0.8], "top_p": 0.9}
        >>> Experiment(["greedy", grid], prompts=["Once upon a time"]).strategies
        ('greedy', 'sampling:temperature=0.5,top_p=0.9', 'sampling:temperature=0.8,top_p=0.9')
    """

    strategies: Any
    prompts: Any
    models: Any = ("smollm2",)
    samples: int = 1
    seed: int = 0
    max_new_tokens: int | None = 128
    stop: str | None = None
    ignore_eos: bool = False
    metrics: Any = ()
    precision: Precision = "invariant"
    device: str = "CPU"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, family in (("strategies", "strategy"), ("metrics", "metric")):
            given = _list(getattr(self, name), name)
            specs = [_written(plugin) for value in given for plugin in expand(value, family)]
            object.__setattr__(self, name, tuple(dict.fromkeys(specs)))
        object.__setattr__(self, "models", tuple(dict.fromkeys(_list(self.models, "models"))))
        object.__setattr__(self, "prompts", Prompts.of(self.prompts))
        if self.stop is not None:
            (stop,) = expand(self.stop, "stopping")
            object.__setattr__(self, "stop", _written(stop))
        _require("strategies", bool(self.strategies), "a list of at least one method", self.strategies)
        sources = bool(self.models) and all(isinstance(source, str) and source for source in self.models)
        _require("models", sources, "a list of sources of models", self.models)
        _require("samples", is_whole(self.samples) and self.samples > 0, "a whole number of at least 1", self.samples)
        _require("seed", is_whole(self.seed), "a whole number", self.seed)
        bounded = self.max_new_tokens is None or (is_whole(self.max_new_tokens) and self.max_new_tokens > 0)
        _require("max_new_tokens", bounded, "a whole number of at least 1, or none", self.max_new_tokens)
        _require("ignore_eos", isinstance(self.ignore_eos, bool), "true or false", self.ignore_eos)
        threads = self.threads is None or (is_whole(self.threads) and self.threads > 0)
        _require("threads", threads, "a whole number of at least 1, or none", self.threads)
        _require("device", isinstance(self.device, str), "the name of a device", self.device)
        one_of("precision", self.precision, Precision)

    @classmethod
    def read(cls, file: str | Path, overrides: Items[str] = ()) -> Experiment:
        """The experiment in a YAML file.

        Args:
            file: the keys of its mapping are the parameters of this class; names of files in it start from its folder.
            overrides: `key=value` each, where the value is YAML and the key may go deeper: `prompts.lines=0:10`.

        Raises:
            ConfigurationError: if it is no such file.
            UnknownNameError: for an unknown key; the message says which come near.
        """
        file = Path(file)
        if not file.is_file():
            raise ConfigurationError(f"`{file}` must be a YAML file with an experiment, but there is none; check the path")
        values = read_yaml(read_text(file), f"`{file}`")
        if not isinstance(values, dict):
            raise ConfigurationError(f"`{file}` must hold keys, such as `strategies: [greedy]`, got {values!r:.60}")
        for override in overrides:
            _override(values, override)
        return cls.of(values, file.parent)

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path = Path()) -> Experiment:
        """The experiment that a mapping describes.

        Args:
            values: the parameters by name.
            folder: what relative names of prompt files start from.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown("key of the experiment", str(key), known)
        for key in ("strategies", "prompts"):
            if values.get(key) is None:
                raise ConfigurationError(f"an experiment must have the key `{key}`, but it has {', '.join(values) or 'none'}")
        return cls(**{**values, "prompts": Prompts.of(values["prompts"], folder)})

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> Experiment:
        """The experiment that `plain` came from, unchecked: what its methods are need not be known here."""
        values = {**plain, "prompts": Prompts.of(plain["prompts"])}
        experiment = object.__new__(cls)
        for each in fields(cls):
            value = values.get(each.name, each.default)
            object.__setattr__(experiment, each.name, tuple(value) if isinstance(value, list) else value)
        return experiment

    def plain(self) -> dict[str, Any]:
        """The experiment in JSON's own types; `Experiment.of` makes it again."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        values["prompts"] = {key: value for key, value in values["prompts"].items() if value not in (None, [], False)}
        return values

    def load_options(self) -> dict[str, Any]:
        """What `ovdecode.load` is to be told about each of the models."""
        return {"precision": self.precision, "device": self.device, "threads": self.threads}


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

    def _key(self, model: int, prompt: int, strategy: int, sample: int) -> str:
        key = self._bases[model][strategy].copy()
        key.update(self.prompts[prompt].digest + sample.to_bytes(8, "little"))
        return key.hexdigest()


def expand(value: Any, family: str) -> list[Plugin]:
    """The plugins that a spec string, a plugin, or a mapping with grids stands for, in order. None leaves out a parameter that
    takes no none.

    Raises:
        ConfigurationError: if it is none of these, or a value is out of range.
        UnknownNameError: for a plugin or parameter that does not exist; the message says which come near.
    """
    if isinstance(value, Plugin) and value.family == family:
        return [value]
    if isinstance(value, str):
        return [parse(value, family)]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigurationError(f"a {family} must be a spec string, or a mapping with a `name`, got {value!r:.80}")
    plugin = lookup(family, value["name"])
    known, hints = parameters(plugin), get_type_hints(plugin)
    choices = []
    for name, given in value.items():
        if name == "name":
            continue
        if name not in known:
            raise unknown(f"parameter of {family} `{value['name']}`:", str(name), known)
        optional = type(None) in get_args(hints[name])
        found = _choices(given, hints[name])
        choices.append([{name: choice} if choice is not None or optional else {} for choice in found])
    missing = [name for name, default in known.items() if default is MISSING and name not in value]
    if missing:
        raise ConfigurationError(f"`{missing[0]}` of {family} `{value['name']}` must be given")
    return [plugin(**dict(ChainMap(*choice))) for choice in itertools.product(*choices)]


def _choices(given: Any, hint: Any) -> list[Any]:
    """The values that a parameter is to take: all of a list, where the parameter takes no list itself."""
    kinds = [kind for kind in (get_origin(one) or one for one in (hint, *get_args(hint))) if isinstance(kind, type)]
    plugins = [kind for kind in kinds if issubclass(kind, Plugin)]
    takes_list = any(issubclass(kind, Iterable) and kind is not str for kind in kinds) and not plugins
    grid = isinstance(given, list) and (not takes_list or any(isinstance(one, list) for one in given))
    values = given if grid else [given]
    if not values:
        raise ConfigurationError("a grid must have at least one value, got []")
    if plugins:
        return [plugin for value in values for plugin in _plugins(value, plugins[0].family, str in kinds)]
    return [tuple(value) if isinstance(value, list) else value for value in values]


def _plugins(value: Any, family: str, or_text: bool) -> list[Any]:
    return [value] if value is None or (or_text and isinstance(value, str)) else list(expand(value, family))


def _written(plugin: Plugin) -> str:
    """A plugin's spec string, from which it can be made again anywhere."""
    spec = str(plugin)
    try:
        same = parse(spec, plugin.family) == plugin
    except ConfigurationError:
        same = False
    if not same:
        raise ConfigurationError(
            f"`{plugin.name}` must be a plugin whose spec string says all about it, so that a store can hold it, but "
            f"`{spec}` does not"
        )
    return spec


def _list(value: Any, name: str) -> list[Any]:
    if isinstance(value, str | Plugin | Mapping):
        return [value]
    if not isinstance(value, Items):
        raise ConfigurationError(f"`{name}` must be a list, got {value!r:.80}")
    return list(value)


def _require(name: str, holds: bool, requirement: str, value: Any) -> None:
    if not holds:
        raise ConfigurationError(f"`{name}` must be {requirement}, got {value!r}")


def _override(values: dict[str, Any], override: str) -> None:
    path, mark, text = override.partition("=")
    if not mark or not path:
        raise ConfigurationError(f"an override must be key=value, such as samples=3, got {override!r}")
    *outer, last = path.split(".")
    for name in outer:
        inner = values.setdefault(name, {})
        if isinstance(inner, str | list) and name == "prompts":
            inner = values[name] = {"file" if isinstance(inner, str) else "texts": inner}
        if not isinstance(inner, dict):
            raise ConfigurationError(f"`{name}` must be a mapping to set `{path}`, but it is {inner!r:.60}")
        values = inner
    values[last] = read_yaml(text, f"the value of `{path}`")


def _hash(value: Any) -> Any:
    return blake2b(json.dumps(value).encode(), digest_size=16)
