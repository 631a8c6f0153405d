"""What every plugin is: a frozen, validated configuration with a name and a spec string."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import Any, ClassVar, get_args, get_type_hints
from weakref import WeakKeyDictionary

from ovdecode.errors import ConfigurationError, ParameterError


def is_whole(value: object) -> bool:
    """Whether this is a whole number; true and false are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


_PLAIN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (is_whole, "a whole number"),
    "float": (lambda value: isinstance(value, Real) and not isinstance(value, bool) and value == value, "a number"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "text"),
}
"""What a plain annotation demands of a value: a NaN is no number."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A frozen dataclass of parameters, registered under a name.

    `str(plugin)` is its spec string, and `parse` of that string is equal to the plugin.

    Parameters that are annotated as a plain number, text, truth value or plugin are checked for that, always and first;
    a class that demands more (a range, a length) says so in a `__post_init__` of its own, with `require`.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    """What it is called in other projects: an error says so to those who look for it by such a name."""
    described: ClassVar[str] = ""
    """What a parameter annotated with this very class must hold, in words; by default, the plugin's name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__.get("__post_init__")
        if own is not None:
            cls.__post_init__ = _checked_first(own)  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        _check_types(self)

    def __str__(self) -> str:
        from ovdecode.spec import format_spec

        return format_spec(self)


def _checked_first(post_init: Callable[..., None]) -> Callable[..., None]:
    """A class's own `__post_init__`, after the check of types: it can neither be forgotten nor come too late."""

    @wraps(post_init)
    def checked(self: Plugin, *init_only: Any) -> None:
        _check_types(self)
        post_init(self, *init_only)

    return checked


def _check_types(plugin: Plugin) -> None:
    for parameter in dataclasses.fields(plugin):
        if not parameter.init:
            continue
        value = getattr(plugin, parameter.name)
        annotation = getattr(parameter.type, "__name__", str(parameter.type))
        kinds = [part.strip() for part in annotation.split("|")]
        if value is None and "None" in kinds:
            continue
        if kinds[0] in _PLAIN and set(kinds[1:]) <= {"None"}:
            holds, requirement = _PLAIN[kinds[0]]
            require(plugin, parameter.name, holds(value), requirement)
        elif plugins := plugin_types(type(plugin), parameter.name):
            told = [each for each in plugins if Plugin not in each.__bases__ or "described" in each.__dict__]
            kinds = [_described(each) for each in told]
            requirement = f"a {plugins[0].family}" + (f": {' or '.join(kinds)}" if kinds else "")
            require(plugin, parameter.name, isinstance(value, plugins), requirement)


def _described(kind: type[Plugin]) -> str:
    return kind.__dict__.get("described") or kind.name or kind.__name__


def plugin_types(kind: type[Plugin], parameter: str) -> tuple[type[Plugin], ...]:
    """The classes that a parameter of a plugin class may hold; none if it is annotated as anything but plugins."""
    hint = type_hints(kind).get(parameter)
    alternatives = [each for each in get_args(hint) or (hint,) if each is not type(None)]
    sound = all(isinstance(each, type) and issubclass(each, Plugin) for each in alternatives)
    return tuple(alternatives) if sound else ()


_known_hints: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()
"""Weak: a class that is local to a function holds what its methods hold, a sequence for one."""


def type_hints(kind: type[Plugin]) -> dict[str, Any]:
    """The annotations of a plugin class by parameter; none of them if one can't be resolved."""
    if kind not in _known_hints:
        try:
            _known_hints[kind] = get_type_hints(kind)
        except NameError:  # a name that only type checkers see, or that is local to a function
            _known_hints[kind] = {}
    return _known_hints[kind]


def require(plugin: Plugin, parameter: str, holds: bool, requirement: str) -> None:
    """Raise a `ParameterError` that names the parameter, what it must be and what it is, unless `holds`."""
    if not holds:
        value: Any = getattr(plugin, parameter)
        shown = f"`{value}`" if isinstance(value, Plugin) else repr(value)
        raise ParameterError(plugin.name or type(plugin).__name__, parameter, requirement, shown)


def one_of(parameter: str, value: Any, names: Any) -> None:
    """Raise a `ConfigurationError` unless `value` is one of the names of a `Literal` type."""
    if value not in get_args(names):
        raise ConfigurationError(f"`{parameter}` must be one of {', '.join(map(str, get_args(names)))}, got {value!r}")
