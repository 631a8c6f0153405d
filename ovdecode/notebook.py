"""What a notebook shows of a generation: its text, each token coloured by how probable it was."""

from __future__ import annotations

import codecs
import html
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovdecode.generation import Generation
    from ovdecode.vocabulary import Spelling

_LEAST = math.log(1e-4)
"""The log-probability from which on tokens have the full colour."""


def generation_html(generation: Generation) -> str:
    """A generation as HTML that is safe to show, readable on light and on dark."""
    task = generation.task
    facts = [str(task.strategy), f"{len(generation.tokens)} tokens"]
    if generation.stop_reason is not None:
        facts.append(str(generation.stop_reason))
    if generation.error is not None:
        facts.append(f"{type(generation.error).__name__}: {generation.error}")
    text = tokens_html(generation.tokens, generation.token_logprobs, task.model.vocabulary.spelling)
    return (
        f"<div><small>{html.escape(' · '.join(facts))}</small>"
        f'<div dir="auto" style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7">{text}</div></div>'
    )


def tokens_html(tokens: Iterable[int], logprobs: Iterable[float], spelling: Spelling) -> str:
    """Tokens as HTML, the less probable the more coloured; those of unknown probability are underlined.

    A character that takes several tokens stands at the last of them.

    Args:
        tokens: ids.
        logprobs: log-probability of each; NaN where it is not known.
        spelling: what the ids spell.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    shown = []
    for token, logprob in zip(tokens, logprobs, strict=True):
        piece = spelling.token_bytes(token)
        special = token in spelling.special_ids
        look = piece.decode("utf-8", "replace") if special else decoder.decode(piece)
        shown.append(_token(look, token, logprob, special))
    return "".join(shown) + html.escape(decoder.decode(b"", final=True))


def _token(look: str, token: int, logprob: float, special: bool) -> str:
    if math.isnan(logprob):
        said, style = "probability not known", "text-decoration:underline dotted"
    else:
        strength = max(0.0, min(logprob / _LEAST, 1.0)) * 0.6
        said, style = f"p = {math.exp(logprob):.3g}", f"background:rgba(230,120,20,{strength:.2f})"
    if special:
        style += ";opacity:0.6"
    return f'<span style="{style}" title="{said}, token {token}">{html.escape(look)}</span>'
