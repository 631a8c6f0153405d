"""Text: the criteria that read what the tokens spell."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import StoppingCriterion, StopReason
from ovdecode.text import generated_text


@register("stop_string")
@dataclass(frozen=True)
class StopString(StoppingCriterion):
    r"""Stops when the generated text contains a string, wherever the borders of the tokens are.

    Law: holds if a string occurs in the generated text. Of several occurrences that one counts which is
    complete first (of these, the longest), as it would if the text came character by character: how the text
    is cut into tokens changes nothing. Text after it is cut off, and so is the string itself unless `keep`.
    Special tokens are no text, and the prompt does not count.

    Source: OpenAI 2020, API reference, parameter `stop`.

    Args:
        string: one string, or several; none of them empty.
        keep: whether the stop string stays in the text.

    Example:
        >>> from ovdecode import StopString, Vocabulary
        >>> prompt = Vocabulary(26).prompt([0])                     # its tokens are letters
        >>> print(StopString("no")(prompt + [8, 13]))               # "in"
        None
        >>> StopString("no")(prompt + [8, 13, 14])                  # "ino"
        StopReason(name='stop_string', detail='no', text_end=1)
    """

    aliases = ("stop_words", "stop_strings")

    string: str | Iterable[str]
    keep: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.string, str):
            strings = tuple(self.string) if isinstance(self.string, Iterable) else ()
            sound = bool(strings) and all(isinstance(string, str) and string for string in strings)
            require(self, "string", sound, 'a string that is not empty, or several (quote numbers: "3")')
            object.__setattr__(self, "string", strings if len(strings) > 1 else strings[0])
        require(self, "string", self.string != "", "a string that is not empty, or several")

    @cached_property
    def _strings(self) -> tuple[str, ...]:
        return (self.string,) if isinstance(self.string, str) else tuple(self.string)

    @property
    def withheld(self) -> int:
        """The length of the longest stop string that may have begun; 0 if it would be kept anyway."""
        return 0 if self.keep else max(map(len, self._strings)) - 1

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason that says which string, and where the text ends."""
        text = generated_text(sequence)
        found = [(start + len(string), start, string) for string in self._strings if (start := text.find(string)) >= 0]
        if not found:
            return None
        end, start, string = min(found)
        return StopReason(self.name, string, end if self.keep else start)


@register("stop_regex")
@dataclass(frozen=True)
class StopRegex(StoppingCriterion):
    r"""Stops when a regular expression matches somewhere in the generated text.

    Law: holds if `re.search(pattern, text)` does, asked after every token; the match counts as far as the
    text goes at that moment (`\d+` stops at the first digit: say what must follow, as in `\d+\D`). Text after
    the match is cut off, and so is the match itself unless `keep`. Special tokens are no text, and the prompt
    does not count.

    A match may begin anywhere, so without `keep` a stream shows nothing before its end.

    Source: Python's `re`.

    Args:
        pattern: a regular expression that does not match the empty text.
        keep: whether the match stays in the text.

    Example:
        >>> from ovdecode import StopRegex, Vocabulary
        >>> prompt = Vocabulary(26).prompt([0])                     # its tokens are letters
        >>> StopRegex("[aeiou]{2}")(prompt + [1, 14, 0, 19])        # "boat"
        StopReason(name='stop_regex', detail='oa', text_end=1)
    """

    pattern: str
    keep: bool = False

    def __post_init__(self) -> None:
        try:
            sound = re.search(self.pattern, "") is None
        except re.error as error:
            require(self, "pattern", False, f"a regular expression ({error})")
        require(self, "pattern", sound, "a regular expression that does not match the empty text")

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @property
    def withheld(self) -> int:
        """All of the text, as a match may begin anywhere; 0 if it would be kept anyway."""
        return 0 if self.keep else sys.maxsize

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason that says what matched, and where the text ends."""
        match = self._compiled.search(generated_text(sequence))
        return StopReason(self.name, match[0], match.end() if self.keep else match.start()) if match else None
