from __future__ import annotations

import numpy as np
import pytest

from ovdecode.candidates import Candidates
from ovdecode.errors import StrategyError
from ovdecode.proposer import Draft, Drafted, chain, continuations, tree

COIN = Candidates(np.array([np.log(3), 0, -np.inf, -np.inf]))


def written(draft: Draft) -> str:
    return " ".join(f"{each.token}({written(each.then)})" if each.then else str(each.token) for each in draft)


def test_a_chain_is_a_tree_without_alternatives() -> None:
    draft = chain([(1, COIN), (3, None)])
    assert written(draft) == "1(3)"
    assert draft[0].drawn_from is COIN
    assert draft[0].then[0].drawn_from is None
    assert chain([]) == ()


def test_nodes_are_listed_before_what_comes_after_them() -> None:
    nodes = [(-1, 3, None), (-1, 1, None), (0, 2, None), (1, 2, None), (0, 0, None), (2, 3, None)]
    assert written(tree(nodes)) == "3(2(3) 0) 1(2)"


def test_the_same_token_may_be_drafted_twice() -> None:
    assert written(tree([(-1, 1, COIN), (-1, 1, COIN), (1, 0, None)])) == "1 1(0)"


def test_continuations_share_what_they_begin_with() -> None:
    assert written(continuations([[1, 2, 3], [2], [1, 2, 0], [1], [2, 2]])) == "1(2(3 0)) 2(2)"
    assert continuations([]) == continuations([[]]) == ()


def test_a_draft_may_be_long() -> None:
    draft = continuations([[1] * 5000])
    length = 0
    while draft:
        draft, length = draft[0].then, length + 1
    assert length == 5000


def test_how_probable_a_token_was() -> None:
    tokens = np.arange(4)
    assert Drafted(1).probabilities_of(tokens).tolist() == [0, 1, 0, 0]
    assert Drafted(1, COIN).probabilities_of(tokens) == pytest.approx([0.75, 0.25, 0, 0])
    narrowed = COIN.at(np.array([1, 3]))
    assert Drafted(1, narrowed).probabilities_of(tokens).tolist() == [0, 1, 0, 0]
    assert Drafted(1, COIN).probability == pytest.approx(0.25)


@pytest.mark.parametrize("candidates", [COIN, COIN.at(np.array([0, 1]))], ids=["dense", "narrowed"])
def test_a_token_must_be_possible_in_what_it_was_drawn_from(candidates: Candidates) -> None:
    with pytest.raises(StrategyError, match="what token 3 was drawn from"):
        Drafted(3, candidates)


def test_probabilities_of_tokens_that_are_no_candidates_are_0() -> None:
    narrowed = Candidates(np.zeros(6, np.float32)).at(np.array([1, 2, 4, 5]))
    assert narrowed.probabilities_of(np.array([0, 5, 1, 3])).tolist() == [0, 0.25, 0.25, 0]


@pytest.mark.parametrize("count", [1, 2])
def test_the_best_are_the_lowest_ids_among_equals(count: int) -> None:
    top = Candidates(np.array([0, 3, 1, 3], np.float32)).top(count)
    assert top.ids.tolist() == [1, 3][:count]
