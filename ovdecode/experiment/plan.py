"""An experiment as data: which models, which methods, which prompts, how many samples, and what to measure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.grid import expand, written
from ovdecode.experiment.prompts import Prompts
from ovdecode.experiment.rows import read_text
from ovdecode.experiment.yaml import read_yaml
from ovdecode.plugin import Plugin, is_whole, one_of
from ovdecode.registry import unknown
from ovdecode.runners.base import Precision


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
            specs = [written(plugin) for value in given for plugin in expand(value, family)]
            object.__setattr__(self, name, tuple(dict.fromkeys(specs)))
        object.__setattr__(self, "models", tuple(dict.fromkeys(_list(self.models, "models"))))
        object.__setattr__(self, "prompts", Prompts.of(self.prompts))
        if self.stop is not None:
            (stop,) = expand(self.stop, "stopping")
            object.__setattr__(self, "stop", written(stop))
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
            raise ConfigurationError(
                f"`{file}` must be a YAML file with an experiment, but there is none; check the path"
            )
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
                raise ConfigurationError(
                    f"an experiment must have the key `{key}`, but it has {', '.join(values) or 'none'}"
                )
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
