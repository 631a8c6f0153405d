"""The laws that every stopping criterion keeps, each a function; `check_stopping` asks for all of them.

from ovdecode.testing import check_stopping

check_stopping(MyStop(patience=3))
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from ovdecode.sequence import Sequence
from ovdecode.stopping import Not, StoppingCriterion, StopReason
from ovdecode.testing import cases
from ovdecode.testing.cases import EOS, VOCAB_SIZE, alive, broken, global_randomness
from ovdecode.testing.configuration import law_configuration
from ovdecode.text import generated_text
from ovdecode.vocabulary import Vocabulary

__all__ = [
    "check_stopping",
    "law_stopping_bound",
    "law_stopping_combination",
    "law_stopping_isolation",
    "law_stopping_purity",
    "law_stopping_reason",
    "law_stopping_text",
]

MOST_TOKENS = 512
"""How far sequences are grown: an instance to check should be bounded by less."""

HOUR = 3600.0
PATTERNS: tuple[tuple[int, ...], ...] = (
    (0,),
    (2,),
    (1, 2),
    (0, 1, 2, 3, 4),
    (3, 3, 1, 4, 0, 2, 1, 4, 4, 0),
    (2, EOS),
)


def check_stopping(criterion: StoppingCriterion, *, invalid: Mapping[str, Iterable[Any]] | None = None) -> None:
    """Hold a criterion to all laws: configuration, purity, isolation, reason, bound, text, combination.

    It is tried on a vocabulary of the letters a to f, of which the last ends a text.

    Args:
        criterion: what is tested.
        invalid: parameter to values that it must refuse.

    Raises:
        AssertionError: the message begins with the law, and says what was seen and what was expected.

    Example:
        >>> import ovdecode as od
        >>> check_stopping(od.MaxNewTokens(4) | od.StopString("cd"))
    """
    law_configuration(criterion, invalid)
    law_stopping_reason(criterion)
    law_stopping_purity(criterion)
    law_stopping_isolation(criterion)
    law_stopping_bound(criterion)
    law_stopping_text(criterion)
    law_stopping_combination(criterion)


def law_stopping_reason(criterion: StoppingCriterion) -> None:
    """The answer is None or a `StopReason` with a name.

    Raises:
        AssertionError: if it does not hold.
    """
    for sequence in _sequences():
        reason = criterion.begin(sequence.prompt)(sequence)
        if reason is not None and not (isinstance(reason, StopReason) and reason.name and bool(reason)):
            raise broken("Reason", criterion, f"{reason!r} for {sequence!r}", "None, or a StopReason with a name")


def law_stopping_purity(criterion: StoppingCriterion) -> None:
    """The same sequence gives the same answer; no global randomness is used, no sequence is held.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Purity"
    vocabulary = Vocabulary(VOCAB_SIZE, [EOS])
    for sequence in _sequences(vocabulary):
        begun = criterion.begin(sequence.prompt)
        with global_randomness(law, criterion):
            first, again = begun(sequence), begun(sequence)
        if first != again:
            raise broken(law, criterion, f"{again} for {sequence!r} when asked again", f"{first}, as at first")
    del sequence, begun
    if alive(vocabulary):
        raise broken(law, criterion, f"{alive(vocabulary)} sequences still held", "none after the call")


def law_stopping_isolation(criterion: StoppingCriterion) -> None:
    """The answer depends on the sequence alone, whatever others were asked about before.

    Raises:
        AssertionError: if it does not hold.
    """
    given = _sequences()
    alone = [dataclasses.replace(criterion).begin(sequence.prompt)(sequence) for sequence in given]
    by_prompt = {sequence.prompt: criterion.begin(sequence.prompt) for sequence in given}
    for order in (range(len(given)), range(len(given) - 1, -1, -1)):
        for place in order:
            sequence = given[place]
            found = by_prompt[sequence.prompt](sequence)
            if found != alone[place]:
                seen = f"{found} for {sequence!r}, asked after others"
                raise broken("Isolation", criterion, seen, f"{alone[place]}, as alone")


def law_stopping_bound(criterion: StoppingCriterion) -> None:
    """A criterion that claims to end meets all that grows, within its bound, and for good.

    The clock is an hour on with each token. A criterion that does not claim to end has no bound.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Bound"
    for prompt in _prompts():
        bound = criterion.bound(prompt)
        if not criterion.ends:
            if bound is not None:
                raise broken(law, criterion, f"the bound {bound} without a claim to end", "`bounded` or no bound")
            continue
        for pattern in PATTERNS:
            met = [reason is not None for _, reason in _grown(criterion, prompt, pattern, MOST_TOKENS)]
            if True not in met:
                seen = f"no stop within {MOST_TOKENS} tokens of {pattern} repeated, though it claims to end"
                raise broken(law, criterion, seen, "one, as every growing sequence must meet it")
            if bound is not None and met.index(True) > bound:
                seen = f"the first stop after {met.index(True)} tokens"
                raise broken(law, criterion, seen, f"at most its bound of {bound}")
            if not all(met[-16:]):
                seen = f"no stop any more after {len(met) - 1} tokens, though it had come"
                raise broken(law, criterion, seen, "a stop that stays, as it claims to end (`&` counts on it)")


def law_stopping_text(criterion: StoppingCriterion) -> None:
    """Text is cut within the text, and never where a stream has already shown more (`withheld` is kept back).

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Text"
    for prompt in _prompts():
        for pattern in PATTERNS:
            shown = 0
            for sequence, reason in _grown(criterion, prompt, pattern, 40):
                text = generated_text(sequence)
                if reason is None:
                    shown = max(shown, len(text) - criterion.begin(prompt).withheld)
                    continue
                end = len(text) if reason.text_end is None else reason.text_end
                if not 0 <= end <= len(text):
                    seen = f"text_end={reason.text_end} for {text!r}"
                    raise broken(law, criterion, seen, f"between 0 and {len(text)}")
                if end < shown:
                    seen = f"text_end={reason.text_end} when {shown} characters of {text!r} had been shown"
                    raise broken(law, criterion, seen, "a larger `withheld`")
                break


def law_stopping_combination(criterion: StoppingCriterion) -> None:
    """`|`, `&` and `~` do what they say, with parts that always or never hold, begun and unbegun.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Combination"
    never, always = _Constant(False), _Constant(True)
    for sequence in _sequences():
        prompt = sequence.prompt
        alone = criterion.begin(prompt)(sequence)
        wanted = alone is not None
        for text, combined, holds in (
            ("c | never", criterion | never, wanted),
            ("never | c", never | criterion, wanted),
            ("c | always", criterion | always, True),
            ("c & always", criterion & always, wanted),
            ("c & never", criterion & never, False),
            ("~c", ~criterion, not wanted),
            ("~~c", Not(~criterion), wanted),
        ):
            reason = combined.begin(prompt)(sequence)
            if (reason is not None) != holds:
                raise broken(law, criterion, f"{reason} from {text} for {sequence!r}", "a reason" if holds else "None")
        if (criterion | never).begin(prompt)(sequence) != alone:
            raise broken(law, criterion, f"another reason from c | never for {sequence!r}", f"{alone}")
    if (criterion | never).ends != criterion.ends or (criterion | never).withheld < criterion.withheld:
        raise broken(law, criterion, "`ends` or `withheld` lost in a combination", "those of its parts")


@dataclasses.dataclass(frozen=True)
class _Constant(StoppingCriterion):
    """Holds always, or never."""

    holds: bool

    def __call__(self, sequence: Sequence) -> StopReason | None:
        return StopReason("always") if self.holds else None


def _prompts() -> list[Sequence]:
    vocabulary = Vocabulary(VOCAB_SIZE, [EOS])
    return [vocabulary.prompt(prompt) for prompt in ([0], [1, 2, 1, 2, 1], [5, 5])]


def _sequences(vocabulary: Vocabulary | None = None) -> list[Sequence]:
    """The usual ones, and longer ones that go round in circles."""
    usual = cases.sequences(vocabulary)
    return usual + [usual[0].prompt + list(pattern) * 12 for pattern in PATTERNS]


def _grown(
    criterion: StoppingCriterion, prompt: Sequence, pattern: tuple[int, ...], most: int
) -> Iterator[tuple[Sequence, StopReason | None]]:
    """A prompt that grows by a repeated pattern, with the criterion's answers."""
    now = 0.0

    def clock() -> float:
        return now

    with ExitStack() as stack:
        for name in ("monotonic", "time", "perf_counter"):
            stack.enter_context(patch.object(time, name, clock))
        begun = criterion.begin(prompt)
        sequence = prompt
        for length in range(most + 1):
            yield sequence, begun(sequence)
            sequence += pattern[length % len(pattern)]
            now += HOUR
