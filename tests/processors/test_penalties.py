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
    EncoderRepetitionPenalty,
    FrequencyPenalty,
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


def test_encoder_repetition_rewards_the_prompt_alone():
    assert after(EncoderRepetitionPenalty(2.0), Vocabulary(4).prompt([0, 2, 2]) + [1, 3]) == [-0.5, 3, 4, -4]
    assert after(EncoderRepetitionPenalty(0.5)) == after(RepetitionPenalty(2.0), SEQUENCE.prompt)


def test_presence_and_frequency_with_the_prompt_and_in_a_window():
    assert after(PresencePenalty(0.5, prompt=True)) == [-1.5, 2.5, 2, -4.5]
    assert after(FrequencyPenalty(0.5, prompt=True)) == [-1.5, 2, 2, -4.5]
    assert after(FrequencyPenalty(0.5, window=2)) == [-1, 2.5, 2, -4.5]
    assert after(FrequencyPenalty(0.5, window=3, prompt=True)) == [-1, 2, 2, -4.5]
    assert after(FrequencyPenalty(0.5, window=99)) == [-1, 2, 2, -4.5]


def test_a_window_that_begins_in_the_prompt_leaves_the_prompt_out():
    sequence = Vocabulary(4).prompt([0, 2]) + [1]
    assert after(PresencePenalty(0.5, window=2), sequence) == [-1, 2.5, 2, -4]
    assert after(RepetitionPenalty(2.0, window=2, prompt=False), sequence) == [-1, 1.5, 2, -4]


def test_toward_zero_raises_negative_logits():
    assert after(PresencePenalty(0.5, toward_zero=True)) == [-1, 2.5, 2, -3.5]
    assert after(FrequencyPenalty(2.0, toward_zero=True)) == [-1, -1, 2, -2]  # zero may be crossed
    assert after(FrequencyPenalty(1.0, toward_zero=True), ids=[1, 3]) == [1, -3]


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=30)


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
    PresencePenalty(0.5, window=2, prompt=True, toward_zero=True),
    EncoderRepetitionPenalty(1.2),
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
        (lambda: PresencePenalty(0.5, window=0), "window"),
        (lambda: FrequencyPenalty(0.5, prompt=1), "prompt"),
        (lambda: FrequencyPenalty(0.5, toward_zero="yes"), "toward_zero"),
        (lambda: EncoderRepetitionPenalty(0), "penalty"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()
