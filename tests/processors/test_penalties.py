"""Penalties: four-token cases, and the plain definitions as references."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.candidates import Candidates
from ovdecode.errors import ConfigurationError
from ovdecode.processor import LogitsProcessor
from ovdecode.spec import parse
from ovdecode.strategies.processors.penalties import (
    FrequencyPenalty,
    NoRepeatNgram,
    PresencePenalty,
    RepetitionPenalty,
)
from ovdecode.vocabulary import Vocabulary

LOGITS = np.array([-1, 3, 2, -4], np.float32)
SEQUENCE = Vocabulary(4).prompt([0]) + [1, 1, 3]


def after(processor, sequence=SEQUENCE, ids=None):
    candidates = Candidates(LOGITS) if ids is None else Candidates(LOGITS[ids], np.array(ids))
    return processor(candidates, sequence).logits.tolist()


def test_repetition_once_for_each_token_and_away_from_the_zero():
    assert after(RepetitionPenalty(2.0)) == [-2, 1.5, 2, -8]


def test_repetition_without_the_prompt():
    assert after(RepetitionPenalty(2.0, prompt=False)) == [-1, 1.5, 2, -8]


def test_repetition_in_a_window():
    assert after(RepetitionPenalty(2.0, window=1)) == [-1, 3, 2, -8]
    assert after(RepetitionPenalty(2.0, window=3)) == [-1, 1.5, 2, -8]
    assert after(RepetitionPenalty(2.0, window=99)) == [-2, 1.5, 2, -8]
    assert after(RepetitionPenalty(2.0, window=2, prompt=False), Vocabulary(4).prompt([0])) == LOGITS.tolist()


def test_presence_counts_generated_tokens_once():
    assert after(PresencePenalty(0.5)) == [-1, 2.5, 2, -4.5]


def test_frequency_counts_generated_tokens_each_time():
    assert after(FrequencyPenalty(0.5)) == [-1, 2, 2, -4.5]


def test_penalties_on_narrowed_candidates():
    assert after(RepetitionPenalty(2.0), ids=[1, 2]) == [1.5, 2]
    assert after(PresencePenalty(0.5), ids=[2, 3]) == [2, -4.5]
    assert after(FrequencyPenalty(0.5), ids=[1, 2]) == [2, 2]


def test_siblings_do_not_share_counts():
    prompt = Vocabulary(4).prompt([0])
    left, right = prompt + [1, 1], prompt + [2]
    assert after(FrequencyPenalty(1.0), left) == [-1, 1, 2, -4]
    assert after(FrequencyPenalty(1.0), right) == [-1, 3, 1, -4]
    assert after(FrequencyPenalty(1.0), left) == [-1, 1, 2, -4]


def impossible(size, tokens, prompt_length=1):
    sequence = Vocabulary(4).prompt(tokens[:prompt_length]) + tokens[prompt_length:]
    logits = NoRepeatNgram(size)(Candidates(LOGITS), sequence).logits
    return np.flatnonzero(logits == -np.inf).tolist()


def test_no_repeat_ngram_in_cases():
    assert impossible(1, [0, 2]) == [0, 2]
    assert impossible(2, [0, 1, 2, 0]) == [1]
    assert impossible(2, [0, 1, 0, 2, 0]) == [1, 2]
    assert impossible(2, [0, 1]) == []
    assert impossible(3, [0, 1, 2, 0, 1]) == [2]
    assert impossible(3, [0, 1, 2, 1, 1]) == []
    assert impossible(2, [3, 3]) == [3]
    assert impossible(5, [0]) == []


def test_no_repeat_ngram_sees_the_prompt():
    assert impossible(2, [0, 1, 2, 0], prompt_length=4) == [1]


def test_no_repeat_ngram_takes_tokens_out_of_narrowed_candidates():
    sequence = Vocabulary(4).prompt([0, 1, 2, 0])
    left = NoRepeatNgram(2)(Candidates(LOGITS[[1, 2]], np.array([1, 2])), sequence)
    assert left.ids.tolist() == [2]


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@given(tokens, st.integers(1, 4))
def test_no_repeat_ngram_equals_its_definition(given_tokens, size):
    seen = {tuple(given_tokens[start : start + size]) for start in range(len(given_tokens) - size + 1)}
    last = given_tokens[len(given_tokens) - size + 1 :]
    expected = [token for token in range(4) if len(given_tokens) >= size - 1 and (*last, token) in seen]
    assert impossible(size, given_tokens) == expected


@given(tokens, st.integers(0, 30), st.floats(-2, 2))
def test_counts_equal_their_definition(given_tokens, prompt_length, penalty):
    prompt_length = min(prompt_length, len(given_tokens))
    sequence = Vocabulary(4).prompt(given_tokens[:prompt_length]) + given_tokens[prompt_length:]
    counts = Counter(given_tokens[prompt_length:])
    frequency = [logit - penalty * counts[token] for token, logit in enumerate(LOGITS.tolist())]
    presence = [logit - penalty * (counts[token] > 0) for token, logit in enumerate(LOGITS.tolist())]
    assert after(FrequencyPenalty(penalty), sequence) == pytest.approx(frequency, abs=1e-4)
    assert after(PresencePenalty(penalty), sequence) == pytest.approx(presence, abs=1e-4)


EXAMPLES: list[LogitsProcessor] = [
    RepetitionPenalty(1.2),
    RepetitionPenalty(1.2, window=64, prompt=False),
    PresencePenalty(0.5),
    FrequencyPenalty(-0.5),
    NoRepeatNgram(2),
]


@pytest.mark.parametrize("processor", EXAMPLES, ids=str)
@pytest.mark.parametrize("ids", [None, [1, 3]])
def test_nothing_is_changed_in_place(processor, ids):
    candidates = Candidates(LOGITS.copy()) if ids is None else Candidates(LOGITS[ids], np.array(ids))
    candidates.logits.flags.writeable = False
    before = candidates.logits.copy()
    first, second = processor(candidates, SEQUENCE), processor(candidates, SEQUENCE)
    assert np.array_equal(candidates.logits, before)
    assert np.array_equal(first.logits, second.logits)
    assert first.logits.dtype == np.float32


@pytest.mark.parametrize("processor", EXAMPLES, ids=str)
def test_spec_strings_come_back(processor):
    assert parse(str(processor), "processor") == processor


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: RepetitionPenalty(0), "penalty"),
        (lambda: RepetitionPenalty(math.inf), "penalty"),
        (lambda: RepetitionPenalty(1.2, window=0), "window"),
        (lambda: RepetitionPenalty(1.2, prompt=3), "prompt"),
        (lambda: PresencePenalty(math.nan), "penalty"),
        (lambda: FrequencyPenalty("much"), "penalty"),
        (lambda: NoRepeatNgram(0), "size"),
        (lambda: NoRepeatNgram(1.5), "size"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
