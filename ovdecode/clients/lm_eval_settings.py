"""What the generation settings of a task in lm-evaluation-harness mean here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovdecode.strategies.generation_config import TaskOptions, from_generation_config
from ovdecode.strategies.stopping.text import StopString
from ovdecode.strategies.stopping.tokens import StopTokens
from ovdecode.strategy import Strategy
from ovdecode.vocabulary import Spelling


def task_options(
    settings: Mapping[str, Any], strategy: Strategy | None, max_new_tokens: int, spelling: Spelling
) -> tuple[TaskOptions, dict[str, Any]]:
    """The options of a task that a request's `gen_kwargs` ask for, and those of its settings that are left out.

    Args:
        settings: of the request, as the harness hands them over.
        strategy: what decodes; then of the settings only `until` and `max_gen_toks` count. None leaves it to them.
        max_new_tokens: bound on generated tokens where they give none.
        spelling: of the model's tokens.

    Raises:
        ConfigurationError: for settings that can't be honoured.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    rest: dict[str, Any] = dict(normalize_gen_kwargs(dict(settings), max_new_tokens))
    until, count = [text for text in rest.pop("until") if text], rest.pop("max_gen_toks")
    left_out: dict[str, Any] = {}
    options: TaskOptions
    if strategy is None:
        options = from_generation_config({**rest, "max_new_tokens": count})
    else:
        left_out = {name: value for name, value in settings.items() if name in rest}
        options = {"strategy": strategy, "max_new_tokens": count, "stop": None, "ignore_eos": False}
    for criterion in _stops(until, spelling):
        options["stop"] = criterion if options["stop"] is None else options["stop"] | criterion
    return options, left_out


def _stops(until: list[str], spelling: Spelling) -> Iterator[StopString | StopTokens]:
    """Criteria for stop strings, of which a special token is none: it adds nothing to the text."""
    encoded = {text: spelling.encode(text) for text in until}
    special = {text for text, tokens in encoded.items() if len(tokens) == 1 and tokens[0] in spelling.special_ids}
    if texts := [text for text in until if text not in special]:
        yield StopString(texts)
    if special:
        yield StopTokens([encoded[text] for text in sorted(special)])
