from __future__ import annotations

import numpy as np
import pytest

from ovdecode import AtLeast, Candidates, SuppressedTokens, Temperature, TopK, TopP, Typical, Vocabulary
from ovdecode.errors import ConfigurationError
from ovdecode.processor import Chain

ROOT = Vocabulary(4).root
ROW = Candidates(np.log([0.125, 0.5, 0.25, 0.125]))


def kept(processor: AtLeast, candidates: Candidates = ROW) -> list[int]:
    left = processor(candidates, ROOT)
    return left.ids[left.logits > -np.inf].tolist()


def test_the_best_stay_and_ties_go_to_the_lower_id() -> None:
    assert kept(AtLeast(1, TopP(0.3))) == [1]
    assert kept(AtLeast(2, TopP(0.3))) == [1, 2]
    assert kept(AtLeast(3, TopP(0.3))) == [0, 1, 2]
    assert kept(AtLeast(9, TopP(0.3))) == [0, 1, 2, 3]


def test_what_leaves_enough_is_left_alone() -> None:
    assert kept(AtLeast(2, TopK(3))) == [0, 1, 2]
    assert kept(AtLeast(2)) == [0, 1, 2, 3]


def test_the_best_are_added_to_what_a_truncation_prefers() -> None:
    assert kept(AtLeast(1, Typical(0.2))) == [1, 2]  # which keeps token 2 alone


def test_those_that_come_back_have_the_logits_that_they_had() -> None:
    left = AtLeast(2, TopK(1))(ROW, ROOT)
    assert left.logits.tolist() == ROW.logits[1:3].tolist()


def test_it_works_on_narrowed_candidates_and_on_what_is_impossible() -> None:
    assert kept(AtLeast(2, TopK(1)), TopK(3)(ROW, ROOT)) == [1, 2]
    banned = SuppressedTokens([1])(ROW, ROOT)
    assert kept(AtLeast(2, TopK(1)), banned) == [0, 2]


def test_in_a_chain() -> None:
    chain = AtLeast(2, TopP(0.3) | TopK(1)) | Temperature(0.5)
    assert isinstance(chain, Chain)
    assert chain(ROW, ROOT).ids.tolist() == [1, 2]


def test_a_count_of_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`count` of `at_least` must be a whole number of at least 1, got 0"):
        AtLeast(0, TopK(1))
