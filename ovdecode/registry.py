"""Every plugin by family and name: ours, those of installed packages, and those of this session."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.plugin import Plugin
from ovdecode.plugin_code import note_source

PluginType = TypeVar("PluginType", bound=type[Plugin])

GROUPS = {
    "strategy": "ovdecode.strategies",
    "processor": "ovdecode.processors",
    "stopping": "ovdecode.stopping",
    "proposer": "ovdecode.proposers",
    "utility": "ovdecode.utilities",
    "metric": "ovdecode.metrics",
}
"""Family to the entry-point group in which packages announce their plugins of that family."""

_PLACES = {
    "strategy": "a strategy",
    "processor": "a processor, as in sampling:processors=({0}) or greedy:processors=({0})",
    "stopping": "a stopping criterion",
    "proposer": "a proposer, as in speculative:proposer=({0})",
    "utility": "a utility, as in mbr:utility=({0})",
    "metric": "a metric",
}
"""Family to what an error says of a plugin that was looked for in another one."""

WORD = r'[^\s"()\[\]|&~:=,]+'
"""One word of a spec; a name is one that does not begin as a schema does."""

log = logging.getLogger(__name__)
_registered: dict[tuple[str, str], type[Plugin]] = {}
_broken: dict[tuple[str, str], Exception] = {}


def register(name: str) -> Callable[[PluginType], PluginType]:
    """Class decorator that makes a plugin known by `name`, for this session at least.

    A package makes its plugins known to everybody through an entry point of the same name in its family's group:
    `[project.entry-points."ovdecode.strategies"]`, `my_method = "my_package:MyMethod"`.

    A class takes the place of an older one of that name; where they are of two modules, that is logged.

    Raises:
        ConfigurationError: if the name can't be written in a spec, or the class belongs to no family of plugins or is
            no dataclass.
    """
    if not (isinstance(name, str) and re.fullmatch(f"(?!{{){WORD}", name)):
        raise ConfigurationError(
            f'a plugin\'s name must be one word without any of "()[]{{|&~:=, got {name!r}; write @register("my_method")'
        )

    def decorate(plugin: PluginType) -> PluginType:
        _check(name, plugin)
        if older := _replaced(name, plugin):
            log.warning(
                "%s `%s` was %s and is %s.%s from now on; choose another name to keep both",
                plugin.family, name, older, plugin.__module__, plugin.__qualname__,
            )  # fmt: skip
        _admit(name, plugin)
        return plugin

    return decorate


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Forget what is registered within, if that fails."""
    before = dict(_registered)
    try:
        yield
    except BaseException:
        _registered.clear()
        _registered.update(before)
        raise


def _check(name: str, plugin: Any) -> None:
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin) and plugin.family in GROUPS):
        raise ConfigurationError(f"`{name}` must be a class that extends one of {', '.join(GROUPS)}, got {plugin!r}")
    if "__init__" in vars(plugin) and "__dataclass_fields__" not in vars(plugin):
        raise ConfigurationError(
            f"`{name}` must be a frozen dataclass, but {plugin.__qualname__} has an `__init__` of its own; write "
            "@dataclass(frozen=True) above the class, and its parameters as fields"
        )


def _replaced(name: str, plugin: type[Plugin]) -> str:
    """The class of another module that has the name of a plugin so far; none that is only loaded once more."""
    known = _registered.get((plugin.family, name))
    if known is not None:
        return "" if known.__module__ == plugin.__module__ else f"{known.__module__}.{known.__qualname__}"
    entry = _announced(plugin.family).get(name)
    if entry is None or _package(entry.value) == _package(plugin.__module__):
        return ""
    return entry.value.replace(":", ".")


def _package(module: str) -> str:
    return module.partition(".")[0].partition(":")[0]


def _admit(name: str, plugin: type[Plugin]) -> None:
    plugin.name = name
    _registered[plugin.family, name] = plugin
    if _package(plugin.__module__) != "ovdecode":
        note_source(plugin)


@cache
def _announced(family: str) -> dict[str, EntryPoint]:
    announced: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUPS[family]):
        first = announced.setdefault(entry.name, entry)
        if first.value != entry.value:
            log.warning(
                "%s `%s` is announced twice: %s is used, %s is left out", family, entry.name, first.value, entry.value
            )
    return announced


def names(family: str) -> list[str]:
    """The names of all plugins of a family that load, sorted."""
    for name in _announced(family):
        _load(family, name)
    return sorted(name for known, name in _registered if known == family)


def broken(family: str) -> dict[str, Exception]:
    """The announced plugins of a family that do not load, and why."""
    names(family)
    return {name: error for (known, name), error in _broken.items() if known == family}


def lookup(family: str, name: str) -> type[Plugin]:
    """The plugin class of that family and name.

    Raises:
        UnknownNameError: if there is none; the message says which names come near.
    """
    _load(family, name)
    if (family, name) in _registered:
        return _registered[family, name]
    if (family, name) in _broken:
        error = _broken[family, name]
        raise UnknownNameError(f"{family} `{name}` is installed but does not load: {error!r}") from error
    known = {*_announced(family), *names(family)}
    if not _nearest(name, known, aliases(family), 0.75) and (places := _elsewhere(name)):
        raise UnknownNameError(f"unknown {family} `{name}`; {'; '.join(places)}")
    raise unknown(family, name, known, aliases(family))


def aliases(family: str) -> dict[str, str]:
    """What the plugins of a family are called besides, to their names: the class, and the names in other projects."""
    plugins = [(name, _registered[family, name]) for name in names(family)]
    return {alias: name for name, plugin in plugins for alias in (plugin.__name__, *plugin.__dict__.get("aliases", ()))}


def unknown(kind: str, name: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest ones.

    Args:
        kind: what it should be the name of.
        name: the name.
        known: all that there are.
        aliases: other words for some of these, which are found by them too.
    """
    choices = sorted(known)
    near = _nearest(name, choices, aliases or {}, 0.5)
    hint = f"did you mean {' or '.join(f'`{choice}`' for choice in near)}?" if near else f"known: {', '.join(choices)}"
    return UnknownNameError(f"unknown {kind} `{name}`; {hint}")


def _nearest(name: str, known: Iterable[str], aliases: Mapping[str, str], cutoff: float) -> list[str]:
    """The names that come near, best first; one alone if it is that, or an alias of it, but for case and marks."""
    spelled = {_plain(word): meant for word, meant in (*aliases.items(), *((each, each) for each in known))}
    exact = _plain(name) in spelled
    near = difflib.get_close_matches(_plain(name), spelled, n=1 if exact else 3, cutoff=cutoff)
    return list(dict.fromkeys(spelled[word] for word in near))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in "_-. ")


def _elsewhere(name: str) -> list[str]:
    """Which plugins of any family have a name, or are called so, and how they are written."""
    places = []
    for family in GROUPS:
        for found in _nearest(name, names(family), aliases(family), 1.0):
            parameters = [each for each in dataclasses.fields(_registered[family, found]) if each.init]
            absent = dataclasses.MISSING
            needed = [f"{each.name}=…" for each in parameters if each.default is each.default_factory is absent]
            written = f"{found}:{','.join(needed)}" if needed else found
            places.append(f"`{found}` is {_PLACES[family].format(written)}")
    return places


def _load(family: str, name: str) -> None:
    entry = _announced(family).get(name)
    if entry is None or (family, name) in _registered or (family, name) in _broken:
        return
    try:
        plugin = entry.load()
        _check(name, plugin)
        _admit(name, plugin)
    except Exception as error:  # a third party's import can fail in any way; the other plugins must still work
        _broken[family, name] = error
        log.warning("%s `%s` (%s) does not load and is left out: %r", family, name, entry.value, error)
