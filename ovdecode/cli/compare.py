"""`ovdecode compare`: methods beside each other, on the same prompts, in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

if TYPE_CHECKING:
    from ovdecode.model import Model


def compare(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to go on from; - reads standard input; three if there is none."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", metavar="SPEC", help="Method; repeatable; six if there is none."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Text, a prompt a line, or .jsonl."),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option("--field", metavar="NAME", help="Field of .jsonl: prompt, question, text or turns[0]."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first prompts.")] = None,
    samples: Annotated[
        int, typer.Option("-n", "--samples", min=1, metavar="N", help="Samples a prompt and method.")
    ] = 1,
    model: Source = MODEL,
    max_new_tokens: MaxNewTokens = 64,
    stop: Stop = None,
    seed: Seed = 0,
    chat: Chat = False,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="fast|invariant|exact",
            help="Named precision; invariant if left out, or fast where a model can't hold that.",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = "CPU",
    plugin: Plugins = None,
    show: Annotated[int, typer.Option("--show", min=0, metavar="N", help="Most prompts whose texts are printed.")] = 6,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything there.")] = None,
) -> None:
    """Decode prompts by several methods in one batch: texts beside each other, and a table of figures.

    Ctrl-C ends the run; what is finished is shown and written. Exit code: 0; 1 if a method failed on a
    prompt; 2 for bad input; 130 after Ctrl-C.
    """
    from ovdecode.cli.batch import run_batch
    from ovdecode.cli.comparison import DEFAULT_STRATEGIES, Comparison
    from ovdecode.cli.console import console, fail
    from ovdecode.cli.failures import FAILED, INTERRUPTED
    from ovdecode.cli.prompts import BUILT_IN, read_prompts, read_standard_input
    from ovdecode.cli.record import check_target, write_record
    from ovdecode.cli.screen import show_table, show_texts
    from ovdecode.engine import Task
    from ovdecode.spec import parse

    load_plugins(plugin)
    methods = {spec.strip(): parse(spec) for spec in strategy or DEFAULT_STRATEGIES}
    criterion = parse_stop(stop)
    if json is not None:
        check_target(json)
    given = map(read_standard_input, prompt or ())
    texts = [*given, *(read_prompts(prompts, field) if prompts else ())] or list(BUILT_IN)
    texts = texts[:limit]
    loaded = _load(model, precision, threads=threads, device=device)
    tasks = [
        Task(loaded, as_prompt(text, chat), method, max_new_tokens, criterion, seed=seed, sample=sample)  # type: ignore[arg-type]
        for text in texts
        for method in methods.values()
        for sample in range(samples)
    ]
    comparison = Comparison(loaded, texts, list(methods), samples, run_batch(tasks))
    screen = console()
    try:
        show_texts(comparison, screen, show)
        show_table(comparison, screen)
    finally:  # what can't be shown, since standard output is closed for one, is kept all the same
        if json is not None:
            ends = {"max_new_tokens": max_new_tokens, "stop": None if criterion is None else str(criterion)}
            source = {"model": model, "device": device, "threads": threads}
            write_record(comparison, source | ends | {"seed": seed, "samples": samples, "chat": chat}, json)
    if comparison.batch.interrupted:
        count = len(comparison.batch.generations)
        fail(f"interrupted; {count} of {comparison.expected} generations were finished and are kept")
        raise typer.Exit(INTERRUPTED)
    if comparison.failed:
        raise typer.Exit(FAILED)


def _load(source: str, precision: str | None, **options: Any) -> Model:
    """The model, in the precision that was asked for, or in the best for comparing that it can hold."""
    from ovdecode.cli.console import note
    from ovdecode.errors import PrecisionError

    if precision is not None:
        return load_model(source, precision=precision, **options)
    try:
        return load_model(source, precision="invariant", **options)
    except PrecisionError as error:
        note(f"precision `fast` is used, in which results may depend on what they ran beside: {error}")
        return load_model(source, precision="fast", **options)
