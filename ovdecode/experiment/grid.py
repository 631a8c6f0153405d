"""Plugins as YAML has them: spec strings, and mappings in which a list is a grid."""

from __future__ import annotations

import itertools
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any, get_args, get_origin, get_type_hints

from ovdecode.errors import ConfigurationError
from ovdecode.plugin import Plugin
from ovdecode.registry import lookup, unknown
from ovdecode.spec import parameters, parse


def expand(value: Any, family: str) -> list[Plugin]:
    """The plugins that a spec string, a plugin, or a mapping with grids stands for, in order.

    None leaves out a parameter that takes no none.

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


def written(plugin: Plugin) -> str:
    """A plugin's spec string, from which it can be made again anywhere.

    Raises:
        ConfigurationError: if it can't be.
    """
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
