"""The command line of lm-evaluation-harness, with ovdecode as its model."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any

from ovdecode.clients.lm_eval import require_harness  # importing it registers the model


def evaluate(arguments: Items[str], model_args: Mapping[str, Any]) -> None:
    """Run the harness's own command line on the model `ovdecode`.

    Args:
        arguments: as after `lm-eval`. `ls` and `validate` run as they are; anything else is a `run`.
        model_args: what `OvdecodeLM` takes. They win over those in a `--config` file, and `--model_args` among
            `arguments` over them.
    """
    require_harness()
    from lm_eval.__main__ import cli_evaluate

    command, *rest = arguments or ["run"]
    if command not in ("ls", "validate"):
        if command != "run":
            command, rest = "run", list(arguments)
        given = ["--model", "ovdecode", "--device", "CPU"]  # the harness's own default is a device of CUDA
        if model_args:
            given += ["--model_args", json.dumps(model_args)]
        rest = [*given, *rest]
    before, sys.argv = sys.argv, ["lm-eval", command, *rest]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
