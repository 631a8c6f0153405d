"""YAML as people mean it: the core schema of YAML 1.2, read safely, no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ovdecode.errors import ConfigurationError


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML reads YAML 1.1, where `10:50` is 650, `no` is false, and `1e-3` is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as the base class has it


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise yaml.MarkedYAMLError(problem=f"the key `{twice[0]}` is there twice", problem_mark=node.start_mark)
    return dict(loader.construct_mapping(node, deep=True))


for _tag, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.nan", list("-+.0123456789")),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(text: str, where: str) -> Any:
    """What a YAML document says.

    Args:
        text: the document.
        where: what it is, for messages.

    Raises:
        ConfigurationError: if it is no YAML; the message says where.

    Example:
        >>> read_yaml("[10:50, 1e-3, no]", "this")
        ['10:50', 0.001, 'no']
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}," if mark is not None else ""
        said = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(f"{where} must be YAML, but{place} {said}") from error
