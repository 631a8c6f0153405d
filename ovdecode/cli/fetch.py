"""`ovdecode fetch`: have a model ready before it is needed."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from ovdecode.cli.options import MODEL


def fetch(
    source: Annotated[str, typer.Argument(help="What to fetch: see --model of the other commands.")] = MODEL,
    weights: Annotated[
        str, typer.Option("--weights", metavar="int8|f16", help="How the weights of a GGUF file are stored.")
    ] = "int8",
) -> None:
    """Download and convert a model, and print the folder that holds it.

    Progress is shown on a terminal. What is there already is not fetched again.
    """
    from ovdecode.models import locate
    from ovdecode.models.from_gguf import Weights
    from ovdecode.plugin import one_of

    one_of("weights", weights, Weights)
    typer.echo(locate(source, weights=cast(Weights, weights)).path)
