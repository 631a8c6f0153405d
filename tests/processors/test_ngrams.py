"""Blocked n-grams: literal cases, and the definition as a reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Candidates, EncoderNoRepeatNgram, Greedy, Model, NoRepeatNgram, Vocabulary
from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse

LOGITS = np.array([-1, 3, 2, -4], np.float32)


def impossible(size, tokens, prompt_length=1, kind=NoRepeatNgram):
    sequence = Vocabulary(4).prompt(tokens[:prompt_length]) + tokens[prompt_length:]
    logits = kind(size)(Candidates(LOGITS), sequence).logits
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


TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@given(TOKENS, st.integers(1, 4))
def test_no_repeat_ngram_equals_its_definition(given_tokens, size):
    seen = {tuple(given_tokens[start : start + size]) for start in range(len(given_tokens) - size + 1)}
    last = given_tokens[len(given_tokens) - size + 1 :]
    expected = [token for token in range(4) if len(given_tokens) >= size - 1 and (*last, token) in seen]
    assert impossible(size, given_tokens) == expected


def test_encoder_ngrams_are_those_of_the_prompt():
    def banned(size, tokens, prompt_length):
        return impossible(size, tokens, prompt_length, EncoderNoRepeatNgram)

    assert banned(1, [0, 2, 3], 2) == [0, 2]
    assert banned(2, [0, 1, 2, 0], 2) == [1]
    assert banned(2, [3, 1, 2, 1], 2) == []  # "1 2" is generated only
    assert banned(2, [3, 1, 2, 1], 3) == [2]
    assert banned(3, [0, 1, 2, 0, 1], 3) == [2]
    assert banned(3, [0, 1, 2, 0, 1], 2) == []
    assert banned(3, [0], 1) == []


@given(TOKENS, st.integers(1, 4), st.integers(1, 30))
def test_encoder_ngrams_equal_their_definition(given_tokens, size, prompt_length):
    prompt = given_tokens[:prompt_length]
    seen = {tuple(prompt[start : start + size]) for start in range(len(prompt) - size + 1)}
    last = given_tokens[len(given_tokens) - size + 1 :]
    expected = [token for token in range(4) if len(given_tokens) >= size - 1 and (*last, token) in seen]
    assert impossible(size, given_tokens, prompt_length, EncoderNoRepeatNgram) == expected


@pytest.mark.parametrize("kind", [NoRepeatNgram, EncoderNoRepeatNgram])
def test_siblings_do_not_share_ngrams(kind):
    trunk = Vocabulary(4).prompt([0, 1, 0, 2])
    for _ in range(2):
        assert kind(2)(Candidates(LOGITS), trunk + 0).logits.tolist() == [-1, -np.inf, -np.inf, -4]
        assert kind(2)(Candidates(LOGITS), trunk + 1).logits.tolist() == [-np.inf, 3, 2, -4]


def test_on_the_real_model(model: Model):
    prompt = "one two three four one two three four one two three four one two"
    tokens = model.encode(prompt)
    plain = (*tokens, *model.generate(prompt, max_new_tokens=12).tokens)
    fresh = (*tokens, *model.generate(prompt, Greedy(processors=EncoderNoRepeatNgram(2)), max_new_tokens=12).tokens)
    pairs = set(pairwise(tokens))
    start = len(tokens) - 1
    assert pairs & set(pairwise(plain[start:]))
    assert not pairs & set(pairwise(fresh[start:]))


@pytest.mark.parametrize("kind", [NoRepeatNgram, EncoderNoRepeatNgram])
def test_configuration(kind):
    assert parse(str(kind(3)), "processor") == kind(3)
    for bad in (0, 1.5, "few"):
        with pytest.raises(ConfigurationError, match="`size`"):
            kind(bad)
