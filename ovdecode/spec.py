"""Spec strings: a plugin and its parameters as text that a command line or a YAML file can hold.

sampling:temperature=0.8,top_p=0.95
beam:num_beams=4,processors=(repetition:penalty=1.2|no_repeat_ngram:size=3)
max_new_tokens:count=64|stop_string:string="\\n\\n"
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, cast, get_args, get_type_hints

import numpy as np

from ovdecode.errors import ConfigurationError
from ovdecode.plugin import Plugin
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import lookup, unknown
from ovdecode.stopping import AllOf, AnyOf, Not, StoppingCriterion

_TOKEN = re.compile(r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>[^\s"()\[\]|&~:=,]+)|(?P<mark>[()\[\]|&~:=,]))""")
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "none": None}


def parse(text: str, family: str = "strategy") -> Plugin:
    """The plugin that a spec string describes.

    Args:
        text: see the module's examples; values are numbers, true, false, none, words, quoted strings, lists in
            brackets, and plugins in parentheses.
        family: `strategy`, `processor`, `stopping` or `proposer`.

    Raises:
        UnknownNameError: for a plugin or parameter that does not exist.
        ConfigurationError: for text that is no spec, or a value out of range.
    """
    parser = _Parser(text)
    plugin = parser.spec(family)
    parser.end()
    return plugin


def format_spec(plugin: Plugin) -> str:
    """The shortest spec string that parses to an equal plugin."""
    if isinstance(plugin, Chain) and plugin.processors:
        return "|".join(_operand(part) for part in plugin.processors)
    if isinstance(plugin, AnyOf):
        return "|".join(_operand(part) for part in plugin.criteria)
    if isinstance(plugin, AllOf):
        return "&".join(_operand(part) for part in plugin.criteria)
    if isinstance(plugin, Not):
        return f"~{_operand(plugin.criterion)}"
    given = []
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        if value != field.default:
            given.append(f"{field.name}={_format_value(value)}")
    return f"{plugin.name}:{','.join(given)}" if given else plugin.name


def parameters(plugin: type[Plugin]) -> dict[str, Any]:
    """Parameter name to default of a plugin class; `dataclasses.MISSING` where it must be given."""
    return {field.name: field.default for field in dataclasses.fields(plugin) if field.init}


def _operand(plugin: Plugin) -> str:
    text = format_spec(plugin)
    return f"({text})" if isinstance(plugin, AnyOf | AllOf | Chain) else text


def _format_value(value: Any) -> str:
    if isinstance(value, Plugin):
        return f"({format_spec(value)})"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{','.join(map(_format_value, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    plain = re.fullmatch(r"[^\s\"()\[\]|&~:=,]+", text) is not None and _word(text) == text
    return text if plain else json.dumps(text)


def _word(text: str) -> Any:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class _Parser:
    """Recursive descent over the tokens of one spec string."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"a closed string at {text[position:]!r}")
            self.tokens.append(match.group().strip())
            position = match.end()
        self.position = 0

    def error(self, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"spec `{self.text}` must have {wanted}; write name:parameter=value,parameter=value")

    @property
    def next(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, wanted: str | None = None) -> str:
        token = self.next
        if not token or (wanted is not None and token != wanted):
            raise self.error(f"`{wanted or 'a name'}` before {token or 'its end'!r}")
        self.position += 1
        return token

    def end(self) -> None:
        if self.next:
            raise self.error(f"nothing after {self.tokens[self.position - 1]!r}, but it goes on with {self.next!r}")

    def spec(self, family: str) -> Plugin:
        parts = [self.conjunction(family)]
        while self.next == "|":
            self.take("|")
            parts.append(self.conjunction(family))
        if len(parts) == 1:
            return parts[0]
        if family == "processor":
            return Chain(tuple(cast(list[LogitsProcessor], parts)))
        return AnyOf(tuple(self.criteria(parts, family)))

    def conjunction(self, family: str) -> Plugin:
        parts = [self.unit(family)]
        while self.next == "&":
            self.take("&")
            parts.append(self.unit(family))
        return parts[0] if len(parts) == 1 else AllOf(tuple(self.criteria(parts, family)))

    def criteria(self, parts: list[Plugin], family: str) -> list[StoppingCriterion]:
        if family != "stopping":
            raise self.error(f"one {family}; only processors and stopping criteria are combined")
        return cast(list[StoppingCriterion], parts)

    def unit(self, family: str) -> Plugin:
        if self.next == "~":
            self.take("~")
            return Not(self.criteria([self.unit(family)], family)[0])
        if self.next == "(":
            self.take("(")
            plugin = self.spec(family)
            self.take(")")
            return plugin
        return self.plugin(family)

    def plugin(self, family: str) -> Plugin:
        name = self.take()
        if (family, name) == ("processor", Chain.name):
            return Chain()
        plugin = lookup(family, name)
        known = parameters(plugin)
        hints = get_type_hints(plugin)
        given: dict[str, Any] = {}
        separator = ":"
        while self.next == separator:
            self.take(separator)
            parameter = self.take()
            if parameter not in known:
                raise unknown(f"parameter of {family} `{name}`:", parameter, known)
            if parameter in given:
                raise self.error(f"`{parameter}` of `{name}` once")
            self.take("=")
            given[parameter] = self.value(hints[parameter])
            separator = ","
        missing = [key for key, default in known.items() if default is dataclasses.MISSING and key not in given]
        if missing:
            raise self.error(f"a value for `{missing[0]}` of `{name}`")
        return plugin(**given)

    def value(self, hint: Any) -> Any:
        if self.next == "(":
            plugins = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Plugin)]
            if not plugins:
                raise self.error(f"a plain value, not one in parentheses, before {self.next!r}")
            self.take("(")
            plugin = self.spec(plugins[0].family)
            self.take(")")
            return plugin
        if self.next == "[":
            self.take("[")
            items: list[Any] = []
            while self.next != "]":
                if items:
                    self.take(",")
                items.append(self.value(None))
            self.take("]")
            return tuple(items)
        token = self.take()
        if not token.startswith('"'):
            return _word(token)
        try:
            return json.loads(token)
        except json.JSONDecodeError as error:
            raise self.error(f"JSON's way of writing strings in {token} ({error})") from error
