"""Grammars: the criterion that knows when a constrained text is complete."""

from __future__ import annotations

from dataclasses import dataclass

from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason
from ovdecode.strategies.processors.constraints import Grammar, JsonSchema, Regex


@register("grammar_complete")
@dataclass(frozen=True)
class GrammarComplete(StoppingCriterion):
    """Stops when the generated text is complete in the language of a constraint.

    Law: holds if the text is in the language and nothing can follow it but its end; with `earliest`, as soon as it is
    in the language (the empty text, too, if the language has it). It never holds for a text outside the language.
    It constrains nothing: give the strategy the same constraint as a processor, and the two share their work.

    Source: llguidance, `is_stopped` and `is_accepting` of its matcher.

    Args:
        constraint: json_schema, regex or grammar.
        earliest: whether a text that could still go on ends too, such as "1" where "12" is a number as well.

    Example:
        >>> from ovdecode import GrammarComplete, Regex, Vocabulary
        >>> prompt = Vocabulary(26).prompt([0])                     # its tokens are letters
        >>> complete = GrammarComplete(Regex("ab?"))
        >>> print(complete(prompt + 0), complete(prompt + [0, 1]))
        None grammar_complete(regex)
        >>> print(GrammarComplete(Regex("ab?"), earliest=True)(prompt + 0))
        grammar_complete(regex)
    """

    constraint: JsonSchema | Regex | Grammar
    earliest: bool = False

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason once the text is complete."""
        state = self.constraint.state(sequence)
        ended = state.complete if self.earliest else state.closed
        return StopReason(self.name, self.constraint.name) if ended else None
