"""Every plugin by family and name: ours, those of installed packages, and those of this session."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.plugin import Plugin

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

log = logging.getLogger(__name__)
_registered: dict[tuple[str, str], type[Plugin]] = {}
_broken: dict[tuple[str, str], Exception] = {}


def register(name: str) -> Callable[[PluginType], PluginType]:
    """Class decorator that makes a plugin known by `name`, for this session at least.

    A package makes its plugins known to everybody through an entry point of the same name in its family's group:
    `[project.entry-points."ovdecode.strategies"]`, `my_method = "my_package:MyMethod"`.

    Raises:
        ConfigurationError: if the class belongs to no family of plugins.
    """

    def decorate(plugin: PluginType) -> PluginType:
        if not (isinstance(plugin, type) and issubclass(plugin, Plugin) and plugin.family in GROUPS):
            raise ConfigurationError(
                f"`{name}` must be a class that extends one of {', '.join(GROUPS)}, got {plugin!r}"
            )
        plugin.name = name
        _registered[plugin.family, name] = plugin
        return plugin

    return decorate


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
    raise unknown(family, name, {*_announced(family), *names(family)})


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest ones."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(f'`{choice}`' for choice in near)}?" if near else f"known: {', '.join(choices)}"
    return UnknownNameError(f"unknown {kind} `{name}`; {hint}")


def _load(family: str, name: str) -> None:
    entry = _announced(family).get(name)
    if entry is None or (family, name) in _registered or (family, name) in _broken:
        return
    try:
        register(name)(entry.load())
    except Exception as error:  # a third party's import can fail in any way; the other plugins must still work
        _broken[family, name] = error
        log.warning("%s `%s` (%s) does not load and is left out: %r", family, name, entry.value, error)
