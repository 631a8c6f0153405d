"""What every plugin is: a frozen, validated configuration with a name and a spec string."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, get_args

from ovdecode.errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A frozen dataclass of parameters, registered under a name.

    `str(plugin)` is its spec string, and `parse` of that string is equal to the plugin.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""

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
