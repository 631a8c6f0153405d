"""What every plugin is: a frozen, validated configuration with a name and a spec string."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, get_args

from ovdecode.errors import ConfigurationError


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

    Parameters that are annotated as a plain number, text or truth value are checked for that; a class that demands more
    (a range, a length) says so in a `__post_init__` of its own, with `require`.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for parameter in dataclasses.fields(self):
            annotation = getattr(parameter.type, "__name__", str(parameter.type))
            kind, *optional = (part.strip() for part in annotation.split("|"))
            value = getattr(self, parameter.name)
            if kind in _PLAIN and not (value is None and "None" in optional):
                holds, requirement = _PLAIN[kind]
                require(self, parameter.name, holds(value), requirement)

    def __str__(self) -> str:
        from ovdecode.spec import format_spec

        return format_spec(self)


def require(plugin: Plugin, parameter: str, holds: bool, requirement: str) -> None:
    """Raise a `ConfigurationError` that names the parameter, what it must be and what it is, unless `holds`."""
    if not holds:
        value: Any = getattr(plugin, parameter)
        raise ConfigurationError(
            f"`{parameter}` of `{plugin.name or type(plugin).__name__}` must be {requirement}, got {value!r}"
        )


def one_of(parameter: str, value: Any, names: Any) -> None:
    """Raise a `ConfigurationError` unless `value` is one of the names of a `Literal` type."""
    if value not in get_args(names):
        raise ConfigurationError(f"`{parameter}` must be one of {', '.join(get_args(names))}, got {value!r}")
