"""What a plugin class runs: the source that it was loaded from, or a digest of its code where there is no source."""

from __future__ import annotations

import dataclasses
import dis
import inspect
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from hashlib import blake2b
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ovdecode.plugin import Plugin

_sources: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def note_source(kind: type) -> None:
    """Remember the source of a class that is being loaded: its file may be edited later, and the class stays."""
    if (source := _read(kind)) is not None:
        _sources[kind] = source


def source_of(kind: type) -> str | None:
    """The text of the whole file that a class was loaded from; None for one of a notebook or a prompt."""
    return _sources.get(kind) or _read(kind)


def _read(kind: type) -> str | None:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    own = [inspect.unwrap(value).__code__.co_filename for value in vars(kind).values() if _is_written(value)]
    if file is None or (own and file not in own):  # a cell of a notebook that was started from a file
        return None
    linecache.checkcache(file)
    return "".join(linecache.getlines(file)) or None


def _is_written(value: Any) -> bool:
    return isinstance(value, FunctionType) and inspect.unwrap(value).__code__.co_filename != "<string>"


def code_digest(kind: type) -> str:
    """A digest of a class's code, and of the functions, classes and plain values of its module that it uses.

    Where it was written and how its lines were broken makes no difference.
    """
    said = blake2b(digest_size=16)

    def note(text: str) -> None:
        said.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))

    _note(kind, kind.__module__, note, set())
    return said.hexdigest()


_APART = (
    "__module__", "__qualname__", "__firstlineno__", "__static_attributes__", "__annotations_cache__", "__doc__",
)  # fmt: skip
"""Attributes of a class that are no part of what it does."""


def _note(value: Any, module: str, note: Callable[[str], None], seen: set[int]) -> None:
    """Note the kind of a value, and then all that it consists of."""
    note(type(value).__qualname__)
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        note(repr(value))
    elif isinstance(value, np.ndarray):
        note(f"{value.dtype} {value.shape} {value.tobytes().hex()}")
    elif id(value) not in seen:
        if not isinstance(value, tuple | frozenset):
            seen.add(id(value))
        for part in _parts(value, module):
            _note(part, module, note, seen)


def _parts(value: Any, module: str) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        yield from value
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, CodeType):
        yield from (value.co_code, value.co_names, value.co_varnames, value.co_consts)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, property):
        yield from (value.fget, value.fset, value.fdel)
    elif isinstance(value, dataclasses.Field):
        yield from (value.name, value.default, value.default_factory)
    elif isinstance(value, FunctionType | type) and value.__module__ != module:
        yield f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, FunctionType):
        yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
        yield from _closed_over(value)
        yield from ((name, value.__globals__[name]) for name in _globals(value.__code__) if name in value.__globals__)
    elif isinstance(value, type):
        yield from value.__mro__[1:]
        yield from ((name, part) for name, part in vars(value).items() if name not in _APART)
    elif isinstance(value, cached_property | partial):
        yield from (value.func, getattr(value, "args", ()), getattr(value, "keywords", {}))
    elif type(value).__module__ == module or isinstance(value, Plugin):
        yield from (type(value), getattr(value, "__dict__", {}))
    else:
        yield getattr(value, "__dict__", {}).get("__wrapped__")  # of `functools.cache`, for one


def _closed_over(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it is empty
            yield cell.cell_contents


def _globals(code: CodeType) -> Iterator[str]:
    """The names of all that a function, with those within it, takes from its module."""
    yield from dict.fromkeys(
        step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals(inner)
