"""Python files with methods of somebody's own."""

from __future__ import annotations

import io
import linecache
import sys
import tokenize
from hashlib import blake2b
from importlib.abc import ExecutionLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ovdecode.errors import ConfigurationError, describe
from ovdecode.registry import all_or_nothing


def read_plugin_file(file: str | Path) -> str:
    """The source of a plugin file.

    Raises:
        ConfigurationError: if it is missing, or no Python file.
    """
    file = Path(file)
    if file.suffix != ".py" or not file.is_file():
        raise ConfigurationError(f"`--plugin` must name a Python file, but `{file}` is none; check the path")
    try:
        with tokenize.open(file) as lines:
            return lines.read()
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigurationError(f"`{file}` must be a Python file, but it can't be read: {error}") from error


def load_plugin_file(file: str | Path) -> None:
    """Run a Python file, so that the methods that it registers are known.

    What lies beside it can be imported, where nothing else has that name.

    Raises:
        ConfigurationError: if it is missing, or fails; the message says where.
    """
    load_plugin(file, read_plugin_file(file))


def load_plugin(file: str | Path, source: str) -> None:
    """Run the source of a Python file, which need not be there.

    Raises:
        ConfigurationError: if it fails; the message says where.
    """
    path = Path(file).resolve()
    name = f"ovdecode_plugin_{path.stem}_{blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    loader = _Text(str(path), source)
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # since its suffix is Python's
    module = module_from_spec(spec)
    folder, before = str(path.parent), sys.modules.get(name)
    added = folder not in sys.path
    sys.modules[name] = module  # dataclasses look their module up by name
    if added:
        sys.path.append(folder)  # last, so that it hides nothing
    # What is shown and digested is this source, even if the file is edited. No byte code of an older one is used.
    linecache.cache[str(path)] = (len(source), None, io.StringIO(source).readlines(), str(path))
    try:
        with all_or_nothing():
            loader.exec_module(module)
    except BaseException as error:
        if added:
            sys.path.remove(folder)
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigurationError(f"`{file}` must be a Python file that runs, but: {describe(error)}") from error


class _Text(ExecutionLoader):
    """Imports a source that is known, whatever has become of its file."""

    def __init__(self, path: str, source: str) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        """Where the source was."""
        return self._path

    def get_source(self, fullname: str) -> str:
        """The source."""
        return self._source
