"""Python files with methods of somebody's own."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ovdecode.errors import ConfigurationError, describe


def read_plugin_file(file: str | Path) -> str:
    """The source of a plugin file.

    Raises:
        ConfigurationError: if it is missing, or no Python file.
    """
    file = Path(file)
    if file.suffix != ".py" or not file.is_file():
        raise ConfigurationError(f"`--plugin` must name a Python file, but `{file}` is none; check the path")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"`{file}` must be a Python file, but it can't be read: {error}") from error


def load_plugin_file(file: str | Path) -> None:
    """Run a Python file, so that the methods that it registers are known.

    What lies beside it can be imported, where nothing else has that name.

    Raises:
        ConfigurationError: if it is missing, or fails; the message says where.
    """
    file = Path(file)
    read_plugin_file(file)
    name = f"ovdecode_plugin_{file.stem}"
    spec = spec_from_file_location(name, file)
    assert spec is not None  # since its suffix is Python's
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    sys.path.append(str(file.parent.resolve()))  # last, so that it hides nothing
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(f"`{file}` must be a Python file that runs, but: {describe(error)}") from error
