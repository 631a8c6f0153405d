"""Limits: no end before its time."""

from __future__ import annotations

import numpy as np
import pytest

from ovdecode.candidates import Candidates
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.spec import parse
from ovdecode.strategies.processors.limits import MinNewTokens
from ovdecode.strategies.processors.truncation import TopK
from ovdecode.vocabulary import Vocabulary

LOGITS = np.array([1, 4, 2, 3], np.float32)
PROMPT = Vocabulary(4, eos_token_ids=[1, 3]).prompt([0, 0, 0])


def test_all_ends_are_impossible_until_enough_is_generated():
    early = MinNewTokens(2)(Candidates(LOGITS), PROMPT + 0)
    assert early.logits.tolist() == [1, -np.inf, 2, -np.inf]
    assert MinNewTokens(2)(Candidates(LOGITS), PROMPT + [0, 0]).logits.tolist() == LOGITS.tolist()


def test_ends_are_taken_out_of_narrowed_candidates():
    narrow = TopK(3)(Candidates(LOGITS), PROMPT)
    assert MinNewTokens(1)(narrow, PROMPT).ids.tolist() == [2]
    with pytest.raises(LogitsError, match="no token is left possible"):
        MinNewTokens(1)(TopK(2)(Candidates(LOGITS), PROMPT), PROMPT).argmax()


def test_a_vocabulary_without_an_end_is_left_alone():
    candidates = Candidates(LOGITS)
    assert MinNewTokens(5)(candidates, Vocabulary(4).prompt([0])) is candidates


def test_nothing_is_changed_in_place():
    logits = LOGITS.copy()
    logits.flags.writeable = False
    MinNewTokens(2)(Candidates(logits), PROMPT)
    assert np.array_equal(logits, LOGITS)


def test_configuration():
    assert parse("min_new_tokens:count=3", "processor") == MinNewTokens(3)
    assert parse(str(MinNewTokens(3)), "processor") == MinNewTokens(3)
    for bad in (0, -1, 1.5, "few"):
        with pytest.raises(ConfigurationError, match="`count`"):
            MinNewTokens(bad)
