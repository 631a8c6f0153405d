"""Where a text stands in a language after each of its tokens, as llguidance's parser sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ovdecode.candidates import Mask
from ovdecode.errors import ConfigurationError, LogitsError, PromptError
from ovdecode.extras import from_extra
from ovdecode.vocabulary import Vocabulary

SPACING = 16
"""A parser is kept at every so many tokens, and where the text grows."""


@dataclass(eq=False, slots=True)
class State:
    """Where a text stands in a language. To whoever asks, it never changes.

    A parser holds the whole text, so one for each token would fill the memory: it moves on to the first state that
    follows. The next one that follows (a sibling) is parsed again from the last parser that was kept.

    Attributes:
        complete: whether the text is in the language.
        closed: whether it is, and nothing can follow but its end.
        left: whether the text is the beginning of none.
    """

    eos_token_ids: frozenset[int]
    complete: bool = False
    closed: bool = False
    left: bool = False
    _ended: bool = False
    _dead: bool = False
    _matcher: Any = None
    _parent: State | None = None
    _token: int = -1
    _depth: int = 0

    def after(self, token: int) -> State:
        """The state after one more token."""
        if token in self.eos_token_ids and self.complete:
            return State(self.eos_token_ids, complete=True, closed=True, _ended=True)
        if self.left or self._ended or self._dead or token in self.eos_token_ids:
            return State(self.eos_token_ids, left=True)
        matcher = self._take()
        consumed = matcher.try_consume_tokens([token])
        _check(matcher)
        if not consumed:
            self._matcher = self._matcher or matcher  # it did not move
            return State(self.eos_token_ids, left=True)
        return State(
            self.eos_token_ids,
            complete=matcher.is_accepting(),
            closed=matcher.is_stopped(),
            _matcher=matcher,
            _parent=self,
            _token=token,
            _depth=self._depth + 1,
        )

    def allowed(self, vocab_size: int) -> Mask:
        """Which tokens can follow, shape (vocab,); none if the vocabulary can't spell what must."""
        ends = list(self.eos_token_ids)
        if self.left or self._ended or self._dead:
            allowed = np.zeros(vocab_size, bool)
            allowed[ends] = self._ended
            return allowed
        self._matcher = self._matcher or self._replayed()
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.get_error().startswith("NoExtensionBias"):  # llguidance's word for a dead end
            self._matcher, self._dead = None, True
            return np.zeros(vocab_size, bool)
        _check(self._matcher)
        allowed = np.unpackbits(bits, count=vocab_size + 1, bitorder="little").view(bool)  # (vocab + 1,)
        allowed[ends] = allowed[-1]
        return allowed[:-1]

    def _take(self) -> Any:
        """A parser that stands here, for the state that follows to move on."""
        if self._matcher is None:
            return self._replayed()
        if self._depth % SPACING == 0:
            return self._matcher.deep_copy()
        matcher, self._matcher = self._matcher, None
        return matcher

    def _replayed(self) -> Any:
        tokens: list[int] = []
        state = self
        while state._matcher is None:
            assert state._parent is not None
            tokens.append(state._token)
            state = state._parent
        matcher = state._matcher.deep_copy()
        matcher.consume_tokens(tokens[::-1])
        _check(matcher)
        return matcher


def root_state(vocabulary: Vocabulary, language: dict[str, Any]) -> Callable[[bytes], State]:
    """Where a text begins in a language, as a function of the bytes that it must begin with before that.

    Args:
        vocabulary: whose tokens spell the text; it is not kept.
        language: as llguidance describes one.
    """
    tokenizer, vocab_size, eos_token_ids = _tokenizer(vocabulary), vocabulary.size, vocabulary.eos_token_ids

    @lru_cache(maxsize=8)
    def begin(owed: bytes) -> State:
        try:
            first = json.dumps(owed.decode(), ensure_ascii=False) if owed else ""
        except UnicodeDecodeError as error:
            raise PromptError(
                f"`prompt` must end after a whole character, but the last one is cut: {owed!r}"
            ) from error
        # Left to itself, llguidance cuts what is certain to come into tokens in one way only.
        lark = f'%llguidance {{"no_forcing": true}}\nstart: {first} @language'
        grammars = {"grammars": [{"lark_grammar": lark}, {**language, "name": "language"}]}
        matcher = llguidance().LLMatcher(tokenizer, json.dumps(grammars), log_level=0)
        if matcher.is_error():
            raise ConfigurationError(f"a constraint does not fit this model's vocabulary: {_message(matcher)}")
        state = State(eos_token_ids, complete=matcher.is_accepting(), _matcher=matcher)
        # llguidance looks whether anything can follow a token, not whether anything can come at all.
        state.closed = state.complete and not np.delete(state.allowed(vocab_size), list(eos_token_ids)).any()
        return state

    return begin


def problem(language: dict[str, Any]) -> str:
    """What is wrong with a language; empty if nothing is, or if llguidance is not there to say so."""
    try:
        from llguidance import LLMatcher
    except ImportError:
        return ""
    wrong, messages = LLMatcher.validate_grammar_with_warnings(json.dumps({"grammars": [language]}))
    return messages[0].strip() if wrong else ""


def llguidance() -> ModuleType:
    """The library that parses.

    Raises:
        ConfigurationError: if it can't be imported.
    """
    library: ModuleType = from_extra("grammar", "llguidance", "a constraint")
    return library


class _Tokens:
    """What llguidance asks of a tokenizer: the bytes of every token, and one that ends a text.

    A token of our own, after all others, ends the text: so there is always one, and the vocabulary may have several.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.size
        self.tokens = [*map(vocabulary.spelling.token_bytes, range(vocabulary.size)), b"<end of text>"]
        self.special_token_ids = [*vocabulary.spelling.special_ids, *vocabulary.eos_token_ids, vocabulary.size]

    def __call__(self, text: bytes) -> list[int]:
        raise NotImplementedError("no text is forced, so none is cut into tokens")


_tokenizers: WeakKeyDictionary[Vocabulary, Any] = WeakKeyDictionary()


def _tokenizer(vocabulary: Vocabulary) -> Any:
    if vocabulary not in _tokenizers:
        tokens, end = _Tokens(vocabulary), vocabulary.size
        _tokenizers[vocabulary] = llguidance().LLTokenizer(tokens, n_vocab=end + 1, eos_token=end)
        tokens.tokens = []  # copied
    return _tokenizers[vocabulary]


def _check(matcher: Any) -> None:
    if matcher.is_error():
        raise LogitsError(f"llguidance gave up on a constraint: {_message(matcher)}")


def _message(matcher: Any) -> str:
    return str(matcher.get_error()).partition("\n<state>")[0].strip()
