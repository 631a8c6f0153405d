"""`ovdecode generate`: one prompt, one method, text as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovdecode.cli.console import console, fail, printable
from ovdecode.cli.failures import BAD_INPUT, INTERRUPTED
from ovdecode.cli.options import (
    MODEL,
    Chat,
    Device,
    MaxNewTokens,
    Plugins,
    Seed,
    Source,
    Stop,
    Threads,
    as_prompt,
    load_model,
    load_plugins,
    parse_stop,
)
from ovdecode.cli.prompts import read_standard_input
from ovdecode.errors import OvdecodeError, describe

if TYPE_CHECKING:
    from ovdecode.engine import Task
    from ovdecode.generation import Generation


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="Text to go on from; - (or nothing, in a pipe) reads standard input.")
    ] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", metavar="SPEC", help="Method, such as sampling:top_p=0.9")
    ] = "greedy",
    model: Source = MODEL,
    max_new_tokens: MaxNewTokens = 128,
    stop: Stop = None,
    seed: Seed = 0,
    chat: Chat = False,
    precision: Annotated[
        str, typer.Option("--precision", metavar="fast|invariant|exact", help="Named precision.")
    ] = "fast",
    threads: Threads = None,
    device: Device = "CPU",
    plugin: Plugins = None,
) -> None:
    """Go on from a prompt, and print the text as it is decided.

    In a pipe, standard output holds the text and nothing else, byte for byte.
    """
    from ovdecode.engine import Task
    from ovdecode.spec import parse

    load_plugins(plugin)
    method, criterion = parse(strategy), parse_stop(stop)
    text = read_standard_input(prompt)
    loaded = load_model(model, precision=precision, threads=threads, device=device)
    task = Task(loaded, as_prompt(text, chat), method, max_new_tokens, criterion, seed=seed)  # type: ignore[arg-type]
    try:
        generation = _stream(task)
    except KeyboardInterrupt:
        _end_line()
        fail("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    _end_line()
    if generation.error is not None:
        fail(describe(generation.error))
        raise typer.Exit(BAD_INPUT if isinstance(generation.error, OvdecodeError) else 1)
    _report(generation)


def _stream(task: Task) -> Generation:
    from ovdecode.engine import Engine, Piece

    for event in Engine().events([task]):
        if isinstance(event, Piece) or (not task.method.commits and event.error is None):
            _write(event.text)
    return event  # type: ignore[return-value]  # the last event of a task is its generation


def _write(text: str) -> None:
    """A piece of text at once: as it is into a pipe, without control characters onto a terminal."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _end_line() -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\n")


def _report(generation: Generation) -> None:
    """What it cost, for a person."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        return
    cost, count = generation.cost, len(generation.tokens)
    figures: list[Any] = [
        f"{count} tokens",
        f"{count / cost.seconds:.0f} tokens/s" if cost.seconds else "",
        f"{cost.forwards} forwards",
        f"mean log-probability {generation.mean_logprob:.2f}",
        f"ended by {printable(str(generation.stop_reason))}" if generation.stop_reason else "",
        f"{generation.runner}, {generation.precision}",
    ]
    screen.print(" · ".join(filter(None, figures)), style="dim")
