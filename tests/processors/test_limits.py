"""Limits: no end before its time, and none too late."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ovdecode import Greedy, Model
from ovdecode.candidates import Candidates
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.spec import parse
from ovdecode.strategies.processors.limits import ExponentialLengthDecay, ForcedEos, MinLength, MinNewTokens
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


def test_min_length_counts_the_prompt():
    assert MinLength(5)(Candidates(LOGITS), PROMPT + 0).logits.tolist() == [1, -np.inf, 2, -np.inf]
    assert MinLength(4)(Candidates(LOGITS), PROMPT + 0).logits.tolist() == LOGITS.tolist()
    assert MinLength(5)(TopK(3)(Candidates(LOGITS), PROMPT), PROMPT).ids.tolist() == [2]


def test_the_end_becomes_exponentially_more_likely():
    row = np.array([1, 4, 2, -3], np.float32)
    decay = ExponentialLengthDecay(start=1, factor=2.0)
    for generated, ends in (([], [4, -3]), ([0], [4, -3]), ([0, 0], [8, 0]), ([0, 0, 0], [16, 6])):
        assert decay(Candidates(row), PROMPT + generated).logits.tolist() == [1, ends[0], 2, ends[1]]
    assert ExponentialLengthDecay(0, 0.5)(Candidates(row), PROMPT + 0).logits.tolist() == [1, 2, 2, -4.5]


def test_decay_leaves_zero_the_impossible_and_narrowed_candidates_sound():
    row = np.array([1, 0, 2, -np.inf], np.float32)
    decay = ExponentialLengthDecay(start=0, factor=2.0)
    assert decay(Candidates(row), PROMPT + 0).logits.tolist() == row.tolist()
    narrow = Candidates(LOGITS[[2, 3]], np.array([2, 3]))
    assert decay(narrow, PROMPT + 0).logits.tolist() == [2, 6]
    late = ExponentialLengthDecay(0, 1e9)(Candidates(LOGITS), PROMPT + [0] * 50).logits
    assert np.isfinite(late).all()
    assert late[1] > 1e29


def test_the_last_token_is_an_end():
    forced = ForcedEos(2)
    assert forced(Candidates(LOGITS), PROMPT).logits.tolist() == LOGITS.tolist()
    assert forced(Candidates(LOGITS), PROMPT + 0).ids.tolist() == [1, 3]
    assert forced(Candidates(LOGITS), PROMPT + 0).logits.tolist() == [4, 3]
    assert len(forced(Candidates(LOGITS), PROMPT + [0, 0])) == 4
    assert ForcedEos(5, prompt=True)(Candidates(LOGITS), PROMPT + 0).ids.tolist() == [1, 3]
    assert ForcedEos(2, tokens=[2])(Candidates(LOGITS), PROMPT + 0).ids.tolist() == [2]


def test_a_forced_end_that_has_gone_is_an_error_and_not_silence():
    narrow = Candidates(LOGITS[[0, 2]], np.array([0, 2]))
    with pytest.raises(LogitsError, match="no token is left possible"):
        ForcedEos(1)(narrow, PROMPT).argmax()


def test_all_limits_leave_a_vocabulary_without_an_end_alone():
    prompt = Vocabulary(4).prompt([0])
    for limit in (MinLength(5), ExponentialLengthDecay(0, 2.0), ForcedEos(2)):
        assert limit(Candidates(LOGITS), prompt + 0).logits.tolist() == LOGITS.tolist()


def test_siblings_of_different_lengths():
    short, long = PROMPT + 0, PROMPT + [2, 2]
    for _ in range(2):
        assert MinLength(5)(Candidates(LOGITS), short).argmax() == 2
        assert MinLength(5)(Candidates(LOGITS), long).argmax() == 1
        assert ForcedEos(2)(Candidates(LOGITS), short).ids.tolist() == [1, 3]
        assert len(ForcedEos(2)(Candidates(LOGITS), long)) == 4
        assert ExponentialLengthDecay(0, 2.0)(Candidates(LOGITS), short).logits[1] == 8
        assert ExponentialLengthDecay(0, 2.0)(Candidates(LOGITS), long).logits[1] == 16


def test_on_the_real_model(model: Model):
    prompt = "Once upon a time"
    (eos,) = model.vocabulary.eos_token_ids
    plain = model.generate(prompt, max_new_tokens=3).tokens
    assert model.generate(prompt, Greedy(processors=ForcedEos(3)), max_new_tokens=9).tokens == (*plain[:2], eos)
    decay = ExponentialLengthDecay(2, 3.0)
    hurried = model.generate(prompt, Greedy(processors=decay), max_new_tokens=60).tokens
    assert hurried[-1] == eos
    later = len(hurried) + 4
    for limit in (MinNewTokens(later), MinLength(len(model.encode(prompt)) + later)):
        kept = model.generate(prompt, Greedy(processors=decay | limit), max_new_tokens=60).tokens
        assert kept[-1] == eos
        assert len(kept) == later + 1


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: MinLength(0), "length"),
        (lambda: ExponentialLengthDecay(-1, 2.0), "start"),
        (lambda: ExponentialLengthDecay(0, 0), "factor"),
        (lambda: ExponentialLengthDecay(0, math.inf), "factor"),
        (lambda: ForcedEos(0), "count"),
        (lambda: ForcedEos(1, prompt=2), "prompt"),
        (lambda: ForcedEos(1, tokens=[]), "tokens"),
        (lambda: ForcedEos(1, tokens=[-1]), "tokens"),
    ],
)
def test_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()


def test_specs_come_back():
    for limit in (MinLength(3), ExponentialLengthDecay(2, 1.5), ForcedEos(3), ForcedEos(3, True, [2, 1])):
        assert parse(str(limit), "processor") == limit
