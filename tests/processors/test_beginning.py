"""The beginning: forced and suppressed first tokens."""

from __future__ import annotations

import numpy as np
import pytest

from ovdecode import BeginSuppress, Candidates, ForcedTokens, Greedy, Model, TopK, Vocabulary
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.spec import parse

LOGITS = np.array([1, 4, 2, 3], np.float32)
PROMPT = Vocabulary(4).prompt([0, 0, 0])


def test_forced_tokens_come_in_order_and_keep_their_logits():
    forced = ForcedTokens([2, 0, 2])
    for generated, token in (([], 2), ([2], 0), ([2, 0], 2)):
        left = forced(Candidates(LOGITS), PROMPT + generated)
        assert left.ids.tolist() == [token]
        assert left.logits.tolist() == [LOGITS[token]]
    assert len(forced(Candidates(LOGITS), PROMPT + [2, 0, 2])) == 4


def test_a_token_forced_at_a_length_counts_the_prompt():
    forced, start = ForcedTokens([2, 0], length=1), Vocabulary(4).prompt([3])
    assert [forced(Candidates(LOGITS), start + each).ids.tolist() for each in ([], [2])] == [[2], [0]]
    assert len(forced(Candidates(LOGITS), start + [2, 0])) == len(forced(Candidates(LOGITS), PROMPT)) == 4
    assert len(ForcedTokens([2], length=5)(Candidates(LOGITS), PROMPT)) == 4
    with pytest.raises(ConfigurationError, match="`length` of `forced_tokens`"):
        ForcedTokens([2], length=0)


def test_a_forced_token_that_has_gone_is_an_error_and_not_silence():
    with pytest.raises(LogitsError, match="no token is left possible"):
        ForcedTokens([0])(TopK(2)(Candidates(LOGITS), PROMPT), PROMPT).argmax()
    with pytest.raises(LogitsError, match="no token is left possible"):
        ForcedTokens([99])(Candidates(LOGITS), PROMPT).argmax()


def test_suppressed_at_the_first_place_only():
    assert BeginSuppress([1, 3, 99])(Candidates(LOGITS), PROMPT).logits.tolist() == [1, -np.inf, 2, -np.inf]
    assert BeginSuppress([1, 3])(Candidates(LOGITS), PROMPT + 0).logits.tolist() == LOGITS.tolist()
    assert BeginSuppress([1])(TopK(2)(Candidates(LOGITS), PROMPT), PROMPT).ids.tolist() == [3]


def test_siblings_of_different_lengths():
    forced, begin = ForcedTokens([2, 1]), BeginSuppress([1])
    short, long = PROMPT + 3, PROMPT + [3, 3]
    for _ in range(2):
        assert forced(Candidates(LOGITS), short).ids.tolist() == [1]
        assert len(forced(Candidates(LOGITS), long)) == 4
        assert begin(Candidates(LOGITS), PROMPT).argmax() == 3
        assert begin(Candidates(LOGITS), short).argmax() == 1


def test_on_the_real_model(model: Model):
    prompt = "The capital of France is"
    london = model.vocabulary.spelling.encode(" in London")
    generation = model.generate(prompt, Greedy(processors=ForcedTokens(london)), max_new_tokens=len(london) + 3)
    assert generation.text.startswith(" in London")
    assert len(generation.tokens) == len(london) + 3
    first = model.generate(prompt, max_new_tokens=1).tokens
    assert model.generate(prompt, Greedy(processors=BeginSuppress(first)), max_new_tokens=1).tokens != first


def test_configuration():
    assert ForcedTokens([2, 0, 2]).tokens == (2, 0, 2)
    assert BeginSuppress([2, 0, 2]).tokens == (0, 2)
    for processor in (ForcedTokens([2, 0, 2]), BeginSuppress([3])):
        assert parse(str(processor), "processor") == processor
    for kind in (ForcedTokens, BeginSuppress):
        for bad in ([], [-1], [1.5], 3, "the"):
            with pytest.raises(ConfigurationError, match="`tokens`"):
                kind(bad)
