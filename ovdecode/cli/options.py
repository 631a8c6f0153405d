"""Options that several commands take, and what is made of them."""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from ovdecode.model import Model
    from ovdecode.stopping import StoppingCriterion

MODEL = "smollm2"

Source = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="SOURCE",
        help="smollm2, an OpenVINO model folder, a GGUF file, or the hub id of an OpenVINO repository.",
    ),
]  # fmt: skip
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, metavar="N", help="Most tokens to generate.")]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT|SPEC",
        help=r"Stop before this text (\n: line break), or at a criterion: loop:repeats=4. Repeatable.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Of all random choices.")]
Chat = Annotated[bool, typer.Option("--chat/--plain", help="Put the prompt into the model's chat template, or not.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, metavar="N", help="CPU threads; the device's default if left out."),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="OpenVINO device.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="Python file with methods of your own. Repeatable."),
]

_SPEC = re.compile(r"[~(]*\w+:\w+=")


def load_model(source: str, **options: Any) -> Model:
    """Load a model, with a sign of life on a terminal."""
    from ovdecode.cli.console import console
    from ovdecode.loading import load
    from ovdecode.models import locate

    screen = console(stderr=True)
    if not screen.is_terminal:
        return load(source, **options)
    if source == MODEL:
        locate(source)  # downloads with a progress bar of its own, which a spinner would garble
    with screen.status(f"loading {source}"):
        return load(source, **options)


def load_plugins(files: list[Path] | None) -> None:
    """Run Python files, so that the methods that they register are known.

    Raises:
        ConfigurationError: if a file is missing, or fails; the message says where.
    """
    from ovdecode.plugin_files import load_plugin_file

    for file in files or ():
        load_plugin_file(file)


def parse_stop(texts: list[str] | None) -> StoppingCriterion | None:
    """The criterion that ends at any of these texts or specs; None for none.

    What begins with the name of a criterion is a spec; anything else is text to stop at.
    """
    criteria = [_criterion(text) for text in texts or ()]
    return reduce(or_, criteria) if criteria else None


def _criterion(text: str) -> StoppingCriterion:
    from ovdecode.registry import lookup, names
    from ovdecode.spec import parse

    known = "|".join(map(re.escape, names("stopping")))
    if _SPEC.match(text) or re.match(rf"[~(]*({known})\s*($|[:|&)])", text):
        return cast("StoppingCriterion", parse(text, "stopping"))
    unescaped = re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t"}.get(match[1], "\\"), text)
    return cast(Any, lookup("stopping", "stop_string"))(unescaped)  # type: ignore[no-any-return]


def as_prompt(text: str, chat: bool) -> Any:
    """A prompt as a task takes it."""
    return [{"role": "user", "content": text}] if chat else text
