"""The prompts of an experiment: a list, or a field of a file, with a template, a range and references."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from string import Formatter
from typing import Any

from ovdecode.errors import ConfigurationError, PromptError
from ovdecode.experiment.rows import Row, prompt_field, prompt_text, read_lines, read_rows
from ovdecode.registry import unknown

_RANGE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready to be decoded.

    Attributes:
        index: its place among the experiment's prompts.
        text: what is continued, or of a conversation the last message.
        messages: the conversation for the model's chat template; None for plain text.
        references: texts that would be right.
    """

    index: int
    text: str
    messages: tuple[dict[str, str], ...] | None = None
    references: tuple[str, ...] = ()

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> Prompt:
        """The prompt whose fields went through JSON."""
        messages = None if plain["messages"] is None else tuple(plain["messages"])
        return cls(plain["index"], plain["text"], messages, tuple(plain["references"]))

    @property
    def content(self) -> Any:
        """What a task takes as its prompt."""
        return self.text if self.messages is None else list(self.messages)

    @cached_property
    def digest(self) -> bytes:
        """A digest of what the model reads."""
        return blake2b(json.dumps(self.content, sort_keys=True).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Prompts:
    """Where the prompts of an experiment come from: `texts` or a `file`.

    Args:
        texts: the prompts themselves.
        file: `.jsonl`, `.csv` or `.tsv`, whose fields are named by the next parameters, or any other file, a prompt a
            line. Blank lines are none.
        field: the field that holds the prompt; a list of messages in it is a conversation.
        template: the prompt with `{field}` for each field of its line (`{text}` for a line of text), and nothing else
            in braces; `{{` and `}}` are braces.
        chat: put the prompt into the model's chat template, as the user's message.
        lines: which prompts, `0:50`; counted from 0, the second is not among them.
        references: the field that holds the text, or the list of texts, that would be right; for `texts`, a list of
            these, one entry a prompt.
        references_file: a text file of as many lines as there are prompts, with the reference of each.

    Example:
        >>> [prompt.text for prompt in Prompts(("tea", "rice"), template="I like {text} because").read()]
        ['I like tea because', 'I like rice because']
    """

    texts: tuple[str, ...] = ()
    file: str | None = None
    field: str | None = None
    template: str | None = None
    chat: bool = False
    lines: str | None = None
    references: Any = None
    references_file: str | None = None

    def __post_init__(self) -> None:
        texts = self.texts
        if isinstance(texts, str) or not isinstance(texts, Items) or not all(isinstance(one, str) for one in texts):
            raise ConfigurationError(f"`texts` of `prompts` must be a list of texts, got {texts!r:.80}")
        object.__setattr__(self, "texts", tuple(self.texts))
        for name in ("file", "field", "template", "lines", "references_file"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"`{name}` of `prompts` must be text, got {value!r:.80}; write it in quotes")
        if not isinstance(self.chat, bool):
            raise ConfigurationError(f"`chat` of `prompts` must be true or false, got {self.chat!r}")
        if bool(self.texts) == (self.file is not None):
            raise ConfigurationError("`prompts` must be a list of texts, or name a `file`; one of the two")
        if self.references is not None and self.references_file is not None:
            raise ConfigurationError(
                "`references` and `references_file` of `prompts` can't both be given; leave one out"
            )
        if isinstance(self.references, str) == bool(self.texts) and self.references is not None:
            raise ConfigurationError(
                "`references` of `prompts` must name a field of a `file`, or list the references of `texts`, "
                f"got {self.references!r:.80}"
            )
        if self.references is not None and not isinstance(self.references, str):
            object.__setattr__(self, "references", _listed(self.references, len(self.texts)))

    @classmethod
    def of(cls, value: Any, folder: Path = Path()) -> Prompts:
        """What YAML or Python says: a list of texts, the name of a file, or a mapping of the parameters.

        Args:
            value: what is said.
            folder: what a relative name of a file starts from.
        """
        if isinstance(value, Prompts):
            return value
        if isinstance(value, str):
            value = {"file": value}
        elif isinstance(value, Items):
            value = {"texts": value}
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"`prompts` must be a list of texts, a file or a mapping, got {value!r:.80}")
        known = [field.name for field in fields(cls)]
        for key in value:
            if key not in known:
                raise unknown("key of `prompts`", str(key), known)
        given = dict(value)
        for name in ("file", "references_file"):
            if isinstance(given.get(name), str):
                given[name] = str(folder / Path(given[name]).expanduser())
        return cls(**given)

    def read(self) -> list[Prompt]:
        """The prompts, in order.

        Raises:
            PromptError: if a file is missing, empty, not UTF-8 or not what its name says, if a line lacks a field,
                or if the references don't match in number. The message names the line.
        """
        rows = [(f"prompt {index}", {"text": text}) for index, text in enumerate(self.texts)]
        if self.file is not None:
            rows = read_rows(Path(self.file))
        references = self._references(rows)
        chosen = self._range(len(rows))
        pairs = [(rows[place], references[place]) for place in chosen]
        return [self._prompt(index, row, reference) for index, (row, reference) in enumerate(pairs)]

    def _prompt(self, index: int, row: Row, references: tuple[str, ...]) -> Prompt:
        where, values = row
        if self.template is not None:
            text = _filled(self.template, values, where)
        else:
            name = prompt_field(values, where, self.field)
            if _is_conversation(values[name]):
                talk = tuple({"role": each["role"], "content": each["content"]} for each in values[name])
                return Prompt(index, talk[-1]["content"], talk, references)
            text = prompt_text(values[name], name, where)
        return Prompt(index, text, ({"role": "user", "content": text},) if self.chat else None, references)

    def _references(self, rows: list[Row]) -> list[tuple[str, ...]]:
        if self.references_file is not None:
            file = Path(self.references_file)
            lines = read_lines(file)
            if len(lines) != len(rows):
                raise PromptError(
                    f"`{file}` must have a line for each of the {len(rows)} prompts (blank lines are none), but it has "
                    f"{len(lines)}"
                )
            return [(line,) for line in lines]
        if isinstance(self.references, str):
            return [_reference(values, self.references, where) for where, values in rows]
        return list(self.references) if self.references is not None else [()] * len(rows)

    def _range(self, count: int) -> range:
        if self.lines is None:
            return range(count)
        match = _RANGE.fullmatch(self.lines.strip())
        if match is None:
            raise ConfigurationError(f"`lines` of `prompts` must be a range, such as 0:50, got {self.lines!r}")
        start, stop = int(match[1] or 0), int(match[2] or count)
        if not start < stop <= count:
            raise ConfigurationError(
                f"`lines` of `prompts` must be a range within the {count} prompts that there are, got {self.lines!r}"
            )
        return range(start, stop)


def _filled(template: str, values: Mapping[str, Any], where: str) -> str:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigurationError(
            f"`template` of `prompts` must be text with fields in braces, but: {error}; write {{{{ for a brace"
        ) from error
    text = []
    for literal, name, form, conversion in parts:
        text.append(literal)
        if name is None:
            continue
        if form or conversion or name not in values:
            raise PromptError(f"`template` must name a field of {where} in braces, not `{name}`: {_near(name, values)}")
        text.append(str(values[name]))
    return prompt_text("".join(text), "template", where)


def _near(name: str, values: Mapping[str, Any]) -> str:
    return str(unknown("field", name, values))


def _reference(values: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    if field not in values:
        raise PromptError(f"`references` must name a field of {where}: {_near(field, values)}")
    found = values[field]
    return tuple(map(str, found)) if isinstance(found, list) else (str(found),)


def _listed(references: Any, count: int) -> tuple[tuple[str, ...], ...]:
    """References that are written out, checked."""
    if not isinstance(references, Items) or len(references) != count:
        said = f"{len(references)}" if isinstance(references, Items) else f"{references!r:.60}"
        raise PromptError(f"`references` must have one entry for each of the {count} prompts, but there are {said}")
    listed = [(one,) if isinstance(one, str) else one for one in references]
    if not all(isinstance(one, Items) and all(isinstance(text, str) for text in one) for one in listed):
        raise PromptError(f"`references` must be texts or lists of texts, got {references!r:.80}")
    return tuple(map(tuple, listed))


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in value)
        and all(isinstance(one[key], str) for one in value for key in ("role", "content"))
    )
