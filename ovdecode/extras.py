"""Packages that come with an extra of this one, and are imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ovdecode.errors import ConfigurationError


def from_extra(extra: str, module: str, user: str) -> Any:
    """A module of a package that comes with an extra.

    Args:
        extra: its name.
        module: the module's, with dots.
        user: who needs it, for the error.

    Raises:
        ConfigurationError: if it is not installed, or fails when it is imported.

    Example:
        >>> from_extra("magic", "no_such_package.spells", "`wizard`")
        Traceback (most recent call last):
            ...
        ovdecode.errors.ConfigurationError: `wizard` needs `no_such_package`, which is not installed. Run: ...
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except Exception as error:  # what does not fit what else is installed raises anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            fault, how = "is not installed", ""
        else:
            fault, how = f"can't be imported: {error}", "--upgrade --upgrade-strategy eager "
        raise ConfigurationError(
            f"{user} needs `{package}`, which {fault}. Run: pip install {how}'ovdecode[{extra}]'"
        ) from error
