"""Constraints: the generated text stays within a language, whatever the search around it does."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from ovdecode.candidates import Candidates, Mask
from ovdecode.errors import LogitsError
from ovdecode.fold import Fold
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.matching import State, problem, root_state
from ovdecode.text import generated_text
from ovdecode.vocabulary import Vocabulary

_IN_SLASHES = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}
"""How Lark writes what can't stand as it is between the slashes of a terminal."""


@dataclass(frozen=True)
class Constraint(LogitsProcessor):
    """Leaves the tokens with which the generated text is still the beginning of a text of a language.

    Law: a token stays if and only if the text with its bytes begins a text of the language; every way to cut a
    text into tokens is allowed. An end-of-text token stays if and only if the text is in the language, and after it
    only end-of-text tokens do. Other special tokens are no text: they go, unless a Lark grammar names them. What is
    left keeps its logits, so sampling is normalised token by token: it is not the model's distribution given that the
    whole text is in the language. The text of the prompt does not count.

    Where no token is left, the candidates are empty, which is an error to whoever chooses one; beam search drops the
    beam. `a | b` is the intersection of two languages, but it may lead where neither can go on.
    """

    @property
    @abstractmethod
    def language(self) -> dict[str, Any]:
        """The language as llguidance describes one."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The candidates that the language allows after `sequence`.

        Raises:
            LogitsError: if the text is not the beginning of any text of the language.
        """
        allowed = self.allowed(sequence)
        return candidates.keep(allowed if candidates.dense else allowed[candidates.ids])

    def allowed(self, sequence: Sequence) -> Mask:
        """Which tokens may follow `sequence`, shape (vocab,)."""
        state = self.state(sequence)
        if state.left:
            raise LogitsError(
                f"`{self.name}` does not allow the text {generated_text(sequence)!r} ({sequence.generated.tolist()}) "
                "that came before; were tokens chosen that are not among its candidates?"
            )
        return state.allowed(sequence.vocabulary.size)

    def state(self, sequence: Sequence) -> State:
        """Where the text stands in the language after the last token of `sequence`."""
        if not sequence.generated_length:
            return self._root(sequence)
        state = self._states(sequence)
        assert state is not None
        return state

    @cached_property
    def _states(self) -> Fold[State | None]:
        def step(state: State | None, sequence: Sequence) -> State:
            if state is None:
                assert sequence.parent is not None
                state = self._root(sequence.parent)
            return state.after(sequence.token)

        return Fold(None, step, generated=True, key=self)

    def _root(self, prompt: Sequence) -> State:
        vocabulary = prompt.vocabulary
        if vocabulary not in self._roots:
            self._roots[vocabulary] = root_state(vocabulary, self.language)
        return self._roots[vocabulary](prompt.owed)

    @cached_property
    def _roots(self) -> WeakKeyDictionary[Vocabulary, Callable[[bytes], State]]:
        return WeakKeyDictionary()

    def _require_language(self, parameter: str, kind: str) -> None:
        """Refuse what llguidance does not understand; it can't be asked where it is not installed."""
        found = problem(self.language)
        require(self, parameter, not found, f"{kind} ({found})")


@register("json_schema")
@dataclass(frozen=True)
class JsonSchema(Constraint):
    """Only what goes on to a JSON value that a schema describes.

    Law: that of `Constraint`, for the JSON texts that the schema accepts, with the properties in the schema's order.
    White space may stand between their parts, but neither before nor after the whole.

    Source: Geng et al. 2025, "JSONSchemaBench: A Rigorous Benchmark of Structured Outputs for Language Models",
    arXiv:2501.10868; parsed by llguidance, which refuses the few keywords that it does not know.

    Args:
        schema: a JSON schema, as a mapping or as JSON text; None for any JSON value. In a spec string it needs no
            quotes: `json_schema:schema={"type":"integer"}`.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, JsonSchema, Vocabulary
        >>> class Digits:
        ...     special_ids = frozenset()
        ...     def encode(self, text): return [int(digit) for digit in text]
        ...     def token_bytes(self, token): return str(token).encode()
        >>> row, prompt = Candidates(np.zeros(10)), Vocabulary(10, spelling=Digits()).prompt([7])
        >>> schema = JsonSchema({"type": "integer", "minimum": 3, "maximum": 15})
        >>> schema(row, prompt).ids.tolist(), schema(row, prompt + 1).ids.tolist()
        ([1, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5])
    """

    aliases = ("guided_json",)

    schema: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.schema is None:
            return
        try:
            schema = json.loads(self.schema) if isinstance(self.schema, str) else self.schema
            text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            require(self, "schema", False, f"a JSON schema ({error})")
        require(self, "schema", isinstance(schema, Mapping), 'a JSON schema, such as {"type": "object"}')
        object.__setattr__(self, "schema", text)
        self._require_language("schema", "a JSON schema that llguidance knows")

    @property
    def language(self) -> dict[str, Any]:
        """The schema."""
        return {"json_schema": json.loads(str(self.schema)) if self.schema else {}}


@register("regex")
@dataclass(frozen=True)
class Regex(Constraint):
    r"""Only what goes on to a text that a regular expression matches as a whole.

    Law: that of `Constraint`, for the texts that the expression matches from their beginning to their end.

    Source: Willard and Louf 2023, "Efficient Guided Generation for Large Language Models", arXiv:2307.09702.

    Args:
        pattern: a regular expression in the syntax of Rust's `regex`, which has neither look-around nor
            back-references; `\d` and `\w` are those of Unicode.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Regex, Vocabulary
        >>> vocabulary = Vocabulary(4, eos_token_ids=[3])                   # the letters a, b, c, and an end
        >>> row, prompt = Candidates(np.zeros(4)), vocabulary.prompt([0])
        >>> [Regex("ab*c?")(row, prompt + tokens).ids.tolist() for tokens in ([], [0], [0, 1, 2])]
        [[0], [1, 2, 3], [3]]
    """

    aliases = ("guided_regex",)

    pattern: str

    def __post_init__(self) -> None:
        self._require_language("pattern", "a regular expression")

    @property
    def language(self) -> dict[str, Any]:
        """The expression, as a Lark grammar of a single terminal."""
        escaped = re.sub(r"\\.|/|\n", lambda found: _IN_SLASHES.get(found[0], found[0]), self.pattern, flags=re.DOTALL)
        return {"lark_grammar": f"start: /{escaped}/"}


@register("grammar")
@dataclass(frozen=True)
class Grammar(Constraint):
    r"""Only what goes on to a text that a context-free grammar derives.

    Law: that of `Constraint`, for the texts that the rule `start` derives.

    Source: Geng et al. 2023, "Grammar-Constrained Decoding for Structured NLP Tasks without Finetuning",
    arXiv:2305.13971.

    Args:
        lark: a grammar in llguidance's form of Lark's syntax: rules in lower case, terminals in capitals, `%ignore`;
            `%json {...}` is a schema inside it.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, Grammar, Vocabulary
        >>> nested = Grammar('start: "b" | "a" start "c"')                  # b, abc, aabcc, ...
        >>> vocabulary = Vocabulary(4, eos_token_ids=[3])                   # the letters a, b, c, and an end
        >>> row, prompt = Candidates(np.zeros(4)), vocabulary.prompt([0])
        >>> [nested(row, prompt + tokens).ids.tolist() for tokens in ([], [0], [0, 1], [0, 1, 2])]
        [[0, 1], [0, 1], [2], [3]]
    """

    aliases = ("lark",)

    lark: str

    def __post_init__(self) -> None:
        self._require_language("lark", "a Lark grammar")

    @property
    def language(self) -> dict[str, Any]:
        """The grammar."""
        return {"lark_grammar": self.lark}
