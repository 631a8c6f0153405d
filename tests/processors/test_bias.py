"""Bias: single tokens moved, allowed or suppressed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.candidates import Candidates
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.processor import LogitsProcessor
from ovdecode.spec import parse
from ovdecode.strategies.processors.bias import AllowedTokens, LogitBias, SuppressedTokens, ban
from ovdecode.strategies.processors.truncation import TopK
from ovdecode.vocabulary import Vocabulary

ROOT = Vocabulary(4).root
LOGITS = np.array([-1, 3, 2, -4], np.float32)


def test_bias_is_added():
    assert LogitBias({0: 5.0, 3: -1})(Candidates(LOGITS), ROOT).logits.tolist() == [4, 3, 2, -5]


def test_bias_finds_tokens_among_narrowed_candidates_and_passes_over_others():
    narrow = Candidates(LOGITS[[1, 3]], np.array([1, 3]))
    biased = LogitBias({0: 5.0, 3: 2.0, 99: 7.0})(narrow, ROOT)
    assert biased.ids.tolist() == [1, 3]
    assert biased.logits.tolist() == [3, -2]
    assert LogitBias({99: 7.0, 1: 1.0})(Candidates(LOGITS), ROOT).logits.tolist() == [-1, 4, 2, -4]


def test_a_bias_of_minus_infinity_forbids():
    assert LogitBias({1: -math.inf})(Candidates(LOGITS), ROOT).argmax() == 2


def test_bias_takes_a_mapping_or_pairs():
    assert LogitBias({7: 1, 5: 2.0}) == LogitBias([(5, 2.0), (7, 1.0)]) == LogitBias([[7, 1.0], [5, 2]])
    assert LogitBias({7: 1, 5: 2.0}).bias == ((5, 2.0), (7, 1.0))


def test_allowed_and_suppressed():
    assert AllowedTokens({3, 0})(Candidates(LOGITS), ROOT).ids.tolist() == [0, 3]
    assert SuppressedTokens(range(1, 3))(Candidates(LOGITS), ROOT).logits.tolist() == [
        -1,
        -np.inf,
        -np.inf,
        -4,
    ]
    narrow = TopK(2)(Candidates(LOGITS), ROOT)
    assert AllowedTokens([0, 2])(narrow, ROOT).ids.tolist() == [2]
    assert SuppressedTokens([0, 2])(narrow, ROOT).ids.tolist() == [1]


def test_tokens_outside_the_vocabulary_are_passed_over():
    assert AllowedTokens([2, 99])(Candidates(LOGITS), ROOT).ids.tolist() == [2]
    assert SuppressedTokens([99])(Candidates(LOGITS), ROOT).logits.tolist() == LOGITS.tolist()


def test_allowing_only_what_has_gone_is_an_error_and_not_silence():
    # Was an IndexError once, when a further processor looked for its tokens among none.
    nothing = AllowedTokens([0])(TopK(2)(Candidates(LOGITS), ROOT), ROOT)
    nothing = (SuppressedTokens([1]) | LogitBias({1: 1.0}))(nothing, ROOT)
    with pytest.raises(LogitsError, match="no token is left possible"):
        nothing.argmax()
    with pytest.raises(LogitsError, match="no token is left possible"):
        SuppressedTokens(range(4))(Candidates(LOGITS), ROOT).argmax()


@given(st.sets(st.integers(0, 3), min_size=1, max_size=3))
def test_allowed_is_suppressed_of_the_rest(tokens):
    rest = set(range(4)) - tokens
    allowed = AllowedTokens(tokens)(Candidates(LOGITS), ROOT)
    suppressed = SuppressedTokens(rest)(Candidates(LOGITS), ROOT)
    assert np.array_equal(allowed.distribution(4), suppressed.distribution(4))


def test_any_iterable_is_normalised():
    assert AllowedTokens(np.array([3, 1, 3])) == AllowedTokens(token for token in (1, 3))
    assert AllowedTokens([3, 1]).tokens == (1, 3)
    assert len({SuppressedTokens([1, 2]), SuppressedTokens({2, 1})}) == 1


EXAMPLES: list[LogitsProcessor] = [
    LogitBias({5: -2.5, 1: 1e-9}),
    LogitBias({0: -math.inf}),
    AllowedTokens([3, 1]),
    SuppressedTokens([2]),
]


@pytest.mark.parametrize("processor", EXAMPLES, ids=str)
@pytest.mark.parametrize("ids", [None, [1, 3]])
def test_nothing_is_changed_in_place(processor, ids):
    candidates = Candidates(LOGITS.copy()) if ids is None else Candidates(LOGITS[ids], np.array(ids))
    candidates.logits.flags.writeable = False
    before = candidates.logits.copy()
    assert processor(candidates, ROOT).logits.dtype == np.float32
    assert np.array_equal(candidates.logits, before)


def test_ban_narrows_only_what_is_narrow():
    assert ban(Candidates(LOGITS), np.array([1])).dense
    assert ban(Candidates(LOGITS[[1, 2]], np.array([1, 2])), np.array([1])).ids.tolist() == [2]


@pytest.mark.parametrize("processor", EXAMPLES, ids=str)
def test_spec_strings_come_back(processor):
    again = parse(str(processor), "processor")
    assert again == processor
    assert hash(again) == hash(processor)


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: LogitBias({}), "bias"),
        (lambda: LogitBias({-1: 2.0}), "bias"),
        (lambda: LogitBias({1: math.nan}), "bias"),
        (lambda: LogitBias({1: math.inf}), "bias"),
        (lambda: LogitBias([(1, 2.0), (1, 3.0)]), "bias"),
        (lambda: LogitBias({"the": 2.0}), "bias"),
        (lambda: LogitBias(3), "bias"),
        (lambda: AllowedTokens([]), "tokens"),
        (lambda: AllowedTokens(3), "tokens"),
        (lambda: SuppressedTokens([-1]), "tokens"),
        (lambda: SuppressedTokens("the"), "tokens"),
        (lambda: SuppressedTokens([1.5]), "tokens"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
