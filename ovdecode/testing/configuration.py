"""Law 7, for plugins of every family: a frozen, validated, documented configuration with a spec string."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ovdecode.errors import ConfigurationError, OvdecodeError, UnknownNameError
from ovdecode.model import Model
from ovdecode.plugin import Plugin, plugin_types
from ovdecode.processor import Chain
from ovdecode.registry import GROUPS, lookup
from ovdecode.spec import parameters, parse
from ovdecode.stopping import AllOf, AnyOf, Not
from ovdecode.testing.cases import broken

LAW = "Configuration"


def law_configuration(plugin: Plugin, invalid: Mapping[str, Iterable[Any]] | None = None) -> None:
    """A plugin is a frozen dataclass: hashable, equal by value, documented, validated, with a spec string.

    Numeric parameters are tried with NaN, with a word and with true; those that hold a plugin with the latter two.
    A parameter that holds a function has no spec string; a model is replaced by the name of one for that.

    Args:
        plugin: any plugin.
        invalid: parameter to values that it must refuse, besides those that are tried for all.

    Raises:
        AssertionError: if it does not hold.
    """
    _check_value(plugin)
    if type(plugin) in (Chain, AnyOf, AllOf, Not):  # combinations have operators for specs
        _check_round_trip(plugin)
        return
    _check_documentation(plugin)
    _check_registration(plugin)
    _check_round_trip(plugin)
    for parameter, values in {**_absurd(plugin), **(invalid or {})}.items():
        for value in values:
            _check_refusal(plugin, parameter, value)
    _check_unknown_parameter(plugin)


def _check_value(plugin: Plugin) -> None:
    kind = type(plugin)
    own = kind.__dict__.get("__dataclass_params__")
    if own is None or not own.frozen:
        seen = "no dataclass" if own is None else "a dataclass that is not frozen"
        raise broken(LAW, plugin, seen, f"@dataclass(frozen=True) on `{kind.__name__}` itself")
    try:
        equal = dataclasses.replace(plugin)
        same = equal == plugin and hash(equal) == hash(plugin)
    except TypeError as error:
        raise broken(LAW, plugin, f"{error!r} from `hash`", "hashable parameters: no lists") from error
    if not same:
        raise broken(LAW, plugin, "a copy that is not equal, or has another hash", "equality by value")


def _check_documentation(plugin: Plugin) -> None:
    kind = type(plugin)
    text = inspect.cleandoc(kind.__doc__ or "")
    if not text or text.startswith(f"{kind.__name__}("):  # the latter is what `dataclass` makes up
        raise broken(LAW, plugin, "no docstring", "one whose first line says what is computed")
    if not re.search(r"^(Source|References?):\s*\S", text, re.MULTILINE):
        raise broken(LAW, plugin, "a docstring without a source", 'a line "Source: authors year, title"')
    documented = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in kind.__mro__)
    for parameter in parameters(kind):
        if not re.search(rf"^\s*(\w+, )*{parameter}(, \w+)*:", documented, re.MULTILINE):
            raise broken(LAW, plugin, f"no documentation of `{parameter}`", f"`{parameter}: ...` under Args")


def _check_registration(plugin: Plugin) -> None:
    try:
        registered = lookup(plugin.family, plugin.name) if plugin.family in GROUPS else None
    except UnknownNameError:
        registered = None
    if registered is not type(plugin):
        seen = f"no plugin registered as {plugin.family or 'anything'} `{plugin.name}`"
        raise broken(LAW, plugin, seen, '@register("a_name") on its class, or an entry point')


def _check_round_trip(plugin: Plugin) -> None:
    if any(callable(value) and not isinstance(value, Plugin | Model) for value in _parameters_within(plugin)):
        return
    stored = _without_models(plugin)
    try:
        parsed = parse(str(stored), stored.family)
    except OvdecodeError as error:
        seen = f"the spec `{stored}`, which is refused: {error}"
        raise broken(LAW, plugin, seen, "a spec that parses") from error
    if parsed != stored:
        raise broken(LAW, plugin, f"the spec `{stored}`, which parses to {parsed!r}", repr(stored))


def _check_refusal(plugin: Plugin, parameter: str, value: Any) -> None:
    expected = f"a ConfigurationError that names `{parameter}`"
    try:
        accepted = dataclasses.replace(plugin, **{parameter: value})
    except Exception as error:
        if isinstance(error, ConfigurationError) and parameter in str(error):
            return
        seen = f"{type(error).__name__} ({error}) for {parameter}={value!r}"
        raise broken(LAW, plugin, seen, expected) from error
    raise broken(LAW, plugin, f"{accepted!r} for {parameter}={value!r}", expected)


def _check_unknown_parameter(plugin: Plugin) -> None:
    known = [*parameters(type(plugin)), "parameter"]
    wrong = f"{known[0]}_"
    try:
        parse(f"{plugin.name}:{wrong}=1", plugin.family)
    except UnknownNameError as error:
        if len(known) > 1 and "did you mean" not in str(error):
            raise broken(LAW, plugin, f"{error} for the parameter `{wrong}`", "a `did you mean`") from error
    else:
        raise broken(LAW, plugin, f"no error for the unknown parameter `{wrong}`", "an UnknownNameError")


def _absurd(plugin: Plugin) -> dict[str, list[Any]]:
    """Values that no numeric parameter can take, or no parameter that holds a plugin."""
    kind = type(plugin)
    hints = get_type_hints(kind)
    found: dict[str, list[Any]] = {}
    for parameter in parameters(kind):
        allowed = _alternatives(hints[parameter])
        if allowed & {int, float} and allowed <= {int, float, NoneType}:
            found[parameter] = [math.nan, "a word", True]
        elif plugin_types(kind, parameter):
            found[parameter] = ["a word", True]
    return found


def _alternatives(hint: Any) -> set[Any]:
    """The types that a hint allows; whatever is not a plain type or a union of them is `object`."""
    if get_origin(hint) in (Union, UnionType):
        return {kind for part in get_args(hint) for kind in _alternatives(part)}
    return {hint} if isinstance(hint, type) else {object}


def _parameters_within(plugin: Any) -> list[Any]:
    """The values of all parameters, and of those of the plugins among them."""
    found = []
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            found.append(part)
            if isinstance(part, Plugin):
                found += _parameters_within(part)
    return found


def _without_models(plugin: Any) -> Any:
    """The plugin with names in the place of models, as a spec string can only hold names."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        if isinstance(value, Model):
            changes[field.name] = "smollm2"
        elif isinstance(value, tuple) and any(isinstance(part, Model) for part in value):
            changes[field.name] = tuple("smollm2" if isinstance(part, Model) else part for part in value)
        elif isinstance(value, Plugin):
            changes[field.name] = _without_models(value)
    return dataclasses.replace(plugin, **changes) if changes else plugin
