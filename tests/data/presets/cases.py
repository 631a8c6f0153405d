"""What every recorder feeds to its engine: literal rows of logits, each with a history that repeats itself."""

from __future__ import annotations

import ast
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROWS: dict[str, dict[str, list[Any]]] = {
    "peaked": {
        "prompt": [3, 7, 7, 1],
        "generated": [5, 5, 9, 5, 20],
        "logits": [
            *[0.31, -1.27, 2.05, 4.42, -0.66, 5.13, 1.94, 3.07, -2.38, 2.71, 0.08, -3.45],
            *[1.16, 3.58, -0.93, 0.77, 2.49, -1.82, 4.01, -4.06, 1.53, 0.54, -2.11, 2.26],
        ],
    },
    "flat": {  # some of the tokens that come again have negative logits
        "prompt": [0, 2, 4, 2],
        "generated": [11, 5, 11, 15, 5],
        "logits": [
            *[0.12, 0.95, -0.41, 0.63, 0.27, -0.88, 1.04, 0.51, -0.17, 0.72, -0.59, 0.84],
            *[-0.03, 1.21, 0.39, -1.13, 0.18, 1.33, -0.29, 0.46, -0.75, 0.91, 0.05, -0.97],
        ],
    },
    "long": {  # the first four tokens are no longer among the last 64
        "prompt": [1, 2, 3, 1, *[10, 11] * 31],
        "generated": [5, 5],
        "logits": [
            *[0.62, 2.48, -0.35, 1.71, -1.19, 2.93, 0.44, -2.27, 1.08, -0.51, 2.36, -1.64],
            *[1.95, 0.17, -0.79, 3.02, -1.43, 0.88, 1.37, -2.06, 0.73, -0.12, 2.14, -0.98],
        ],
    },
    "loop": {  # four tokens have come again, but for the last of them
        "prompt": [1, 2, 3, 4, 13],
        "generated": [9, 1, 2, 3],
        "logits": [
            *[1.12, 0.48, 1.95, -0.31, 3.62, 0.27, -1.74, 2.18, 0.93, 2.64, -0.86, 1.41],
            *[-2.35, 1.68, 0.06, 2.87, -1.03, 0.71, 1.29, -0.58, 2.03, -1.92, 0.84, 1.55],
        ],
    },
    "ties": {  # the fourth to the seventh best are equal
        "prompt": [8, 8, 15],
        "generated": [16, 2, 16, 6],
        "logits": [
            *[-1.5, 0.25, 3.0, -0.5, 1.0, -2.0, 2.0, 0.5, 2.0, -3.0, 0.0, 2.0],
            *[-1.0, 1.5, 0.75, 2.0, 4.0, -0.25, 3.5, -2.5, 1.25, -0.75, 0.125, -4.0],
        ],
    },
}
"""A prompt, what was generated after it, and the logits of the next token; 24 tokens."""


def softmax(logits: Any) -> list[float]:
    """The distribution that processed logits stand for, shape (vocab,), to seven places."""
    row = np.asarray(logits, np.float64)
    weights = np.exp(row - row.max())
    return [float(f"{value:.7g}") for value in weights / weights.sum()]


def write(name: str, versions: dict[str, str], cases: list[dict[str, Any]]) -> None:
    """One case a line, so that a change of one shows as one."""
    head = json.dumps({"versions": versions, "rows": ROWS})[:-1]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / f"{name}.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
    print(f"{name}: {len(cases)} cases, {versions}")


def function_of(wheel: Path, path: str, name: str, **scope: Any) -> Any:
    """A function of a file in a wheel (`Class.name` for a method), without what the rest of the file imports.

    For engines that cannot be installed here, but whose sampling is plain torch. `scope` is what it may refer to.
    """
    with zipfile.ZipFile(wheel) as archive:
        body: Any = ast.parse(archive.read(path)).body
    for part in name.split("."):
        node = next(node for node in body if getattr(node, "name", None) == part)
        body = node.body
    node.decorator_list, node.body = [], [line for line in node.body if not isinstance(line, ast.ImportFrom)]
    node.returns = None
    for argument in node.args.args:
        argument.annotation = None
    exec(compile(ast.Module([node], []), path, "exec"), scope)
    return scope[node.name]
