"""A comparison for a program: everything that is known about a run, as JSON with stable keys."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.environment import versions
from ovdecode.models.atomic import is_special, published

if TYPE_CHECKING:
    from ovdecode.cli.comparison import Comparison
    from ovdecode.generation import Candidate, Generation

FORMAT = "ovdecode.compare/1"
"""The number changes when a key is renamed, removed or means something else; a new key changes nothing."""


def check_target(file: Path) -> None:
    """Raise before anything is decoded, rather than after, if the file could not be written.

    Raises:
        ConfigurationError: if its folder is missing, or it cannot be written.
    """
    if str(file) == "-":
        raise ConfigurationError("`--json` must name a file, got `-`; standard output is `--json /dev/stdout`")
    touched = [file] if file.exists() else []
    touched += [] if is_special(file) else [file.resolve().parent]
    if file.is_dir() or not all(os.access(each, os.W_OK) for each in touched):
        raise ConfigurationError(
            f"`--json` must name a file that can be written, but `{file}` can't be; check the path"
        )


def write_record(comparison: Comparison, options: Mapping[str, Any], file: Path) -> None:
    """Write a comparison to a file, whole or not at all. Numbers that are none (NaN) become null.

    Raises:
        ConfigurationError: if it can't be written.
    """
    text = json.dumps(_plain(record(comparison, options)), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with published(file) as scratch:
            scratch.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"`--json` must name a file that can be written, but: {error}") from error


def record(comparison: Comparison, options: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison as a dictionary.

    Keys:
        format, created: `FORMAT`, and the time in UTC.
        versions: of ovdecode, openvino, numpy and python.
        model: name, runner, precision, vocab_size, context_length.
        options: the command's, seed among them.
        prompts, strategies: what was compared; strategies as spec strings.
        interrupted: whether Ctrl-C ended the run, so that generations are missing.
        seconds, tokens: of the whole run.
        figures: one a strategy; see `Figures`.
        generations: one a finished task, in the order of prompts, strategies, samples: index, prompt (text),
            prompt_index, strategy (spec), sample, text, tokens (ids), taken_back (tokens of the prompt
            chosen again), logprobs (a token, of the model),
            logprob, mean_logprob, score, reason (name and detail, or null), cost (forwards, tokens, seconds,
            time_to_first_token, cache_bytes), info, alternatives (all that the strategy returned, best first, if
            several), runner, precision, error (type and message, or null).
    """
    model = comparison.model
    return {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "model": {
            "name": model.name,
            "runner": model.runner.name,
            "precision": model.runner.precision,
            "vocab_size": model.runner.vocab_size,
            "context_length": model.runner.context_length,
        },
        "options": dict(options),
        "prompts": comparison.prompts,
        "strategies": comparison.strategies,
        "interrupted": comparison.batch.interrupted,
        "seconds": comparison.batch.seconds,
        "tokens": comparison.tokens,
        "figures": [asdict(each) for each in comparison.figures],
        "generations": [
            _generation(comparison, index, one) for index, one in sorted(comparison.batch.generations.items())
        ],
    }


def _generation(comparison: Comparison, index: int, one: Generation) -> dict[str, Any]:
    prompt, strategy, sample = comparison.place(index)
    error = None if one.error is None else {"type": type(one.error).__name__, "message": str(one.error)}
    return {
        "index": index,
        "prompt": comparison.prompts[prompt],
        "prompt_index": prompt,
        "strategy": comparison.strategies[strategy],
        "sample": sample,
        **_candidate(one),
        "mean_logprob": one.mean_logprob,
        "cost": asdict(one.cost),
        "info": dict(one.info),
        "alternatives": [_candidate(each) for each in one.alternatives] if len(one.alternatives) > 1 else [],
        "runner": one.runner,
        "precision": one.precision,
        "error": error,
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    reason = one.stop_reason
    return {
        "text": one.text,
        "tokens": list(one.tokens),
        "taken_back": one.taken_back,
        "logprobs": list(one.token_logprobs),
        "logprob": one.logprob,
        "score": one.score,
        "reason": None if reason is None else {"name": reason.name, "detail": reason.detail},
    }


def _plain(value: Any) -> Any:
    """The value in JSON's own types: numbers of NumPy as Python's, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Items):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
