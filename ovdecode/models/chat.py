"""Chat templates without transformers: found in a model folder, rendered in a sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from ovdecode.errors import ModelError, PromptError
from ovdecode.models.folder import read_json

_TRAINING_MARKS = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")


def no_template(folder: Path) -> ModelError:
    """The error for a conversation with a model that has no chat template."""
    return ModelError(
        f"`{folder}` must hold a chat template to format a conversation, but it holds none: it is probably a "
        "base model. Give plain text instead, or use the model's instruction-tuned version."
    )


def find_chat_template(folder: Path) -> str | None:
    """The folder's default chat template, from any of the files that may carry it, in transformers' order."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = read_json(folder / name).get("chat_template")
        if isinstance(template, list):
            template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
        if template:
            return str(template)
    return None


def render_chat(
    template: str, folder: Path, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
) -> str:
    """The conversation as the text that the model was trained on.

    The template is a program of the model's author: it runs in jinja2's immutable sandbox, with the names
    that transformers gives it.

    Raises:
        PromptError: The template refuses the messages, or they lack what it needs.
    """
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        compiled = environment.from_string(_TRAINING_MARKS.sub("", template))
        return compiled.render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **special_literals(folder),
        )
    except SecurityError as error:
        raise ModelError(f"`{folder}` holds a chat template that does what the sandbox forbids: {error}") from error
    except (TemplateError, TypeError, KeyError) as error:
        raise PromptError(f"`messages` must fit the model's chat template, but: {error}") from error


def special_literals(folder: Path) -> dict[str, str]:
    """The literals of `bos_token`, `eos_token` and their like, from `tokenizer_config.json`."""
    literals = {}
    for name, value in read_json(folder / "tokenizer_config.json").items():
        if name.endswith("_token"):
            literal = value.get("content") if isinstance(value, dict) else value
            if isinstance(literal, str):
                literals[name] = literal
    return literals


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)
