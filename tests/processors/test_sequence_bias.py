"""Bias on sequences: what is under way, and what a definition in plain Python says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import BadWords, Candidates, Greedy, Model, SequenceBias, TopK, Vocabulary
from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse

LOGITS = np.array([-1, 3, 2, -4], np.float32)
PROMPT = Vocabulary(4).prompt([0, 1])


def after(processor, sequence=PROMPT):
    return processor(Candidates(LOGITS), sequence).logits.tolist()


def test_the_last_token_of_a_sequence_under_way_is_biased():
    bias = SequenceBias({(0, 1, 2): 5.0, (1, 3): 1.0, (0, 0): 9.0})
    assert after(bias) == [-1, 3, 7, -3]
    assert after(bias, PROMPT + 0) == [8, 3, 2, -4]
    assert after(bias, PROMPT + 2) == LOGITS.tolist()


def test_a_single_token_is_always_under_way_and_biases_add_up():
    assert after(SequenceBias({(2,): 1.0, (1, 2): 2.0, (0, 1, 2): 4.0, (0, 2): 8.0})) == [-1, 3, 9, -4]


def test_a_beginning_may_be_longer_than_what_there_is():
    assert after(SequenceBias({(3, 0, 1, 2): 5.0})) == LOGITS.tolist()
    assert after(BadWords([[3, 0, 1, 2]])) == LOGITS.tolist()


def test_minus_infinity_and_bad_words_forbid():
    words = [[1], [1, 2], [0, 3]]
    assert after(BadWords(words)) == [-1, -np.inf, -np.inf, -4]
    assert after(SequenceBias([(word, -math.inf) for word in words])) == after(BadWords(words))
    assert BadWords(words)(TopK(2)(Candidates(LOGITS), PROMPT), PROMPT).ids.tolist() == []
    assert BadWords([[1, 2]])(TopK(2)(Candidates(LOGITS), PROMPT), PROMPT).ids.tolist() == [1]


def test_narrowed_candidates_and_tokens_outside_the_vocabulary():
    narrow = Candidates(LOGITS[[1, 3]], np.array([1, 3]))
    assert SequenceBias({(2,): 1.0, (1, 3): 2.0, (1, 99): 3.0})(narrow, PROMPT).logits.tolist() == [3, -2]
    assert after(BadWords([[99], [1, 99]])) == LOGITS.tolist()


def test_siblings_do_not_share_beginnings():
    bias, words = SequenceBias({(2, 0): 5.0}), BadWords([[2, 0]])
    for _ in range(2):
        assert after(bias, PROMPT + 2)[0] == 4
        assert after(bias, PROMPT + 3)[0] == -1
        assert after(words, PROMPT + 2)[0] == -np.inf
        assert after(words, PROMPT + 3)[0] == -1


SEQUENCES = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)


@given(
    st.dictionaries(SEQUENCES, st.integers(-3, 3), min_size=1, max_size=20),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_equals_its_definition(bias, tokens):
    expected = LOGITS.tolist()
    for sequence, value in bias.items():
        if (*tokens,)[len(tokens) - len(sequence) + 1 :] == sequence[:-1] and len(tokens) >= len(sequence) - 1:
            expected[sequence[-1]] += value
    assert after(SequenceBias(bias), Vocabulary(4).prompt(tokens)) == expected


def test_on_the_real_model(model: Model):
    prompt = "The capital of France is"
    (paris,) = model.vocabulary.spelling.encode(" Paris")
    assert model.generate(prompt, max_new_tokens=1).tokens == (paris,)
    last = model.encode(prompt)[-1]
    assert model.generate(prompt, Greedy(processors=BadWords([[last, paris]])), max_new_tokens=1).tokens != (paris,)
    other = BadWords([[paris, paris]])
    assert model.generate(prompt, Greedy(processors=other), max_new_tokens=1).tokens == (paris,)
    (london,) = model.vocabulary.spelling.encode(" London")
    bias = SequenceBias({(last, london): 20.0})
    assert model.generate(prompt, Greedy(processors=bias), max_new_tokens=1).tokens == (london,)


def test_configuration_is_normalised_and_spec_strings_come_back():
    assert SequenceBias({(1, 2): 1, (0,): -math.inf}) == SequenceBias([[[0], -math.inf], [[1, 2], 1.0]])
    assert BadWords([[2], np.array([0, 1]), (2,)]).sequences == ((0, 1), (2,))
    for processor in (SequenceBias({(1, 2): 1, (0,): -math.inf}), BadWords([[2], [0, 1]])):
        again = parse(str(processor), "processor")
        assert again == processor
        assert hash(again) == hash(processor)


@pytest.mark.parametrize(
    "bias",
    [{}, {(): 1.0}, {(-1,): 1.0}, {(1,): math.nan}, {(1,): math.inf}, [((1,), 1.0), ([1], 2.0)], {"the": 1.0}, 3],
)
def test_bias_errors(bias):
    with pytest.raises(ConfigurationError, match="`bias` of `sequence_bias` must be"):
        SequenceBias(bias)


@pytest.mark.parametrize("sequences", [[], [[]], [[-1]], [1, 2], ["the"], 3, [[0.5]]])
def test_bad_words_errors(sequences):
    with pytest.raises(ConfigurationError, match="`sequences` of `bad_words` must be"):
        BadWords(sequences)
