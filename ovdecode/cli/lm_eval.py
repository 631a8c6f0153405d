"""`ovdecode lm-eval`: lm-evaluation-harness, its own command line, on our models and methods."""

from __future__ import annotations

from typing import Annotated

import typer

from ovdecode.cli.options import Plugins, Threads, load_plugins

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What typer is to do with options that are the harness's."""


def lm_eval(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", metavar="SOURCE", help="As of the other commands; smollm2 if left out.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", metavar="SPEC", help="Method of all generations; as the tasks say if left out."),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, metavar="N", help="Where a task gives no bound.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="fast|invariant|exact", help="Named precision.")
    ] = None,
    threads: Threads = None,
    plugin: Plugins = None,
) -> None:
    """Run lm-evaluation-harness with any method; everything that is not below is passed on to it.

    ovdecode lm-eval --tasks gsm8k --limit 20 --strategy sampling:temperature=0.8,top_p=0.95

    `ovdecode lm-eval ls tasks` lists its tasks, `lm-eval run --help` its options.
    """
    from ovdecode.clients.lm_eval_command import evaluate
    from ovdecode.spec import parse

    load_plugins(plugin)
    if strategy is not None:
        parse(strategy)  # a mistake in it is told before the harness begins
    given = {
        "source": model,
        "strategy": strategy,
        "max_new_tokens": max_new_tokens,
        "precision": precision,
        "threads": threads,
    }
    evaluate(context.args, {name: value for name, value in given.items() if value is not None})
