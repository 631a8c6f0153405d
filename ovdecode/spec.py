"""Spec strings: a plugin and its parameters as text that a command line or a YAML file can hold.

sampling:temperature=0.8,top_p=0.95
beam:num_beams=4,processors=(repetition:penalty=1.2|no_repeat_ngram:size=3)
max_new_tokens:count=64|stop_string:string="\\n\\n"
sampling:processors=(json_schema:schema={"type": "integer"})
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, cast, get_args, get_type_hints

import numpy as np

from ovdecode.errors import ConfigurationError
from ovdecode.plugin import Plugin, type_hints
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import WORD, lookup, unknown
from ovdecode.stopping import AllOf, AnyOf, Not, StoppingCriterion

_TOKEN = re.compile(rf"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>{WORD})|(?P<mark>[()\[\]|&~:=,]))""")
_SPACE = re.compile(r"\s*")
_MARKS = "()[]|&~:=,"
_OBJECTS = json.JSONDecoder()
_COMBINATIONS: dict[tuple[str, str], Callable[[tuple[Any, ...]], Plugin]] = {
    (kind.family, kind.name): kind for kind in (Chain, AnyOf, AllOf)
}
"""What is written by name only when it combines fewer than two."""
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "none": None}


def parse(text: str, family: str = "strategy") -> Plugin:
    """The plugin that a spec string describes.

    Args:
        text: see the module's examples; values are numbers, true, false, none, words, quoted strings, JSON objects
            (which are text), lists in brackets, and plugins in parentheses.
        family: `strategy`, `processor`, `stopping`, `proposer`, `utility` or `metric`.

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
    if isinstance(plugin, Chain):
        return _combination("|", plugin.name, plugin.processors)
    if isinstance(plugin, AnyOf | AllOf):
        return _combination("|" if isinstance(plugin, AnyOf) else "&", plugin.name, plugin.criteria)
    if isinstance(plugin, Not):
        return f"~{_operand(plugin.criterion)}"
    given = []
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        if field.init and value != _default(field):
            given.append(f"{field.name}={format_value(value)}")
    return f"{plugin.name}:{','.join(given)}" if given else plugin.name


def parameters(plugin: type[Plugin]) -> dict[str, Any]:
    """Parameter name to default of a plugin class; `dataclasses.MISSING` where it must be given."""
    return {field.name: _default(field) for field in dataclasses.fields(plugin) if field.init}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _combination(mark: str, name: str, parts: tuple[Plugin, ...]) -> str:
    """Operands between marks; a combination of fewer than two has no mark to show, and is named."""
    return mark.join(map(_operand, parts)) if len(parts) > 1 else "".join([name, *map(_parenthesised, parts)])


def _parenthesised(plugin: Plugin) -> str:
    return f"({plugin})"


def _operand(plugin: Plugin) -> str:
    combined = isinstance(plugin, AnyOf | AllOf | Chain)
    return _parenthesised(plugin) if combined else str(plugin)


def format_value(value: Any) -> str:
    """The value of a parameter as a spec string has it."""
    if isinstance(value, Plugin):
        return _parenthesised(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{','.join(map(format_value, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    plain = re.fullmatch(r"[^\s\"()\[\]|&~:=,{][^\s\"()\[\]|&~:=,]*", text) is not None and _word(text) == text
    return text if plain or _is_object(text) else json.dumps(text)


def _is_object(text: str) -> bool:
    """Whether a text is a JSON object, from its first character to its last."""
    try:
        return text.startswith("{") and _OBJECTS.raw_decode(text)[1] == len(text)
    except (ValueError, RecursionError):
        return False


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
            position = cast(re.Match[str], _SPACE.match(text, position)).end()
            if text.startswith("{", position):
                start, position = position, self.object_end(position)
                self.tokens.append(text[start:position])
                continue
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"a closed string at {text[position:]!r}")
            self.tokens.append(match.group().strip())
            position = match.end()
        self.position = 0

    def error(self, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"spec `{self.text}` must have {wanted}; write name:parameter=value,parameter=value")

    def object_end(self, start: int) -> int:
        try:
            return _OBJECTS.raw_decode(self.text, start)[1]
        except (ValueError, RecursionError) as error:
            raise self.error(f"a JSON object, or quotes, at {self.text[start:]!r:.80} ({error})") from error

    @property
    def next(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, mark: str) -> None:
        """Go past a mark."""
        if self.next != mark:
            raise self.missing(f"`{mark}`")
        self.position += 1

    def word(self, wanted: str, marks: str) -> str:
        """The next token, which can't be any of these marks: then what is wanted is missing."""
        token = self.next
        if not token or token in marks:
            raise self.missing(wanted)
        self.position += 1
        return token

    def missing(self, wanted: str) -> ConfigurationError:
        return self.error(f"{wanted} before {f'`{self.next}`' if self.next else 'its end'}")

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

    def plugin(self, family: str, *, bare: bool = False) -> Plugin:
        kind = "stopping criterion" if family == "stopping" else family
        name = self.word(f"the name of a {kind}", _MARKS)
        if (family, name) in _COMBINATIONS:
            return _COMBINATIONS[family, name](self.only_part(family))
        plugin = lookup(family, name)
        known = parameters(plugin)
        hints = type_hints(plugin) or get_type_hints(plugin)  # which says what is wrong with them
        given: dict[str, Any] = {}
        separator = ":"
        while self.next == separator and not bare:  # after a bare word, a comma goes on with the outer plugin
            self.take(separator)
            parameter = self.word(f"a parameter of `{name}`", _MARKS)
            if parameter not in known:
                raise unknown(f"parameter of {family} `{name}`:", parameter, known)
            if parameter in given:
                raise self.error(f"`{parameter}` of `{name}` once")
            self.take("=")
            given[parameter] = self.value(hints[parameter], f"a value for `{parameter}` of `{name}`")
            separator = ","
        missing = [key for key, default in known.items() if default is dataclasses.MISSING and key not in given]
        if missing:
            raise self.error(f"a value for `{missing[0]}` of `{name}`")
        return plugin(**given)

    def only_part(self, family: str) -> tuple[Any, ...]:
        """The one part of a combination that is written by its name, if it has one."""
        if self.next != "(":
            return ()
        return (self.unit(family),)

    def value(self, hint: Any, wanted: str) -> Any:
        plugins = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Plugin)]
        wordless = plugins and str not in get_args(hint)
        if wordless and self.next not in ("(", "[") and self.next.lower() not in _CONSTANTS:
            return self.plugin(plugins[0].family, bare=True)
        if self.next == "(":
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
                items.append(self.value(None, "an item or `]`"))
            self.take("]")
            return tuple(items)
        token = self.word(wanted, ",)]")
        if not token.startswith('"'):
            return _word(token)
        try:
            return json.loads(token)
        except json.JSONDecodeError as error:
            raise self.error(f"JSON's way of writing strings in {token} ({error})") from error
