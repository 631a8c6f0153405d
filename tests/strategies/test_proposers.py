from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdecode import (
    DraftModel,
    DraftTree,
    EarlyExit,
    Forward,
    Model,
    PromptLookup,
    SuffixIndex,
    TableRunner,
    Temperature,
    Vocabulary,
)
from ovdecode.errors import ConfigurationError
from ovdecode.proposer import Draft, Proposer
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategy import Stepwise
from ovdecode.testing.enumeration import Choices

FOUR = Model(TableRunner({(): np.log([0.1, 0.4, 0.3, 0.2]), (2,): np.log([0.7, 0.1, 0.1, 0.1])}))
"""Four tokens; after token 2, the best is 0 and otherwise 1, then 2, then 3."""


def proposed(proposer: Proposer, strategy: Stepwise, tokens: int = 9, rng: Any = None) -> tuple[Draft, list[Forward]]:
    """What is drafted after [0], and what was asked for that."""
    asked: list[Forward] = []
    length = 1 + tokens
    working = proposer.propose(
        FOUR.vocabulary.prompt([0]),
        lambda sequence: sequence.length >= length,  # type: ignore[arg-type, return-value]
        strategy.law,
        rng or Choices(),
    )
    answer: Any = None
    while True:
        try:
            wanted = working.send(answer)
        except StopIteration as finished:
            return finished.value, asked
        requests = [each for each in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(each, Forward)]
        asked += requests
        rows = [each.logits[0] for each in FOUR.runner.forward(requests)]
        answer = rows if isinstance(wanted, list) else rows[0]


def written(draft: Draft) -> str:
    return " ".join(f"{each.token}({written(each.then)})" if each.then else str(each.token) for each in draft)


# ---- A draft model -----------------------------------------------------------------------------------------


def test_a_draft_ends_after_a_token_that_was_improbable() -> None:
    assert written(proposed(DraftModel(FOUR, 3), Sampling(top_k=1))[0]) == "1(1(1))"
    assert written(proposed(DraftModel(FOUR, 3, threshold=0.5), Greedy())[0]) == "1"  # the best has 0.4
    assert written(proposed(DraftModel(FOUR, 3, threshold=0.3), Greedy())[0]) == "1(1(1))"
    sharper = DraftModel(FOUR, 3, threshold=0.5, processors=Temperature(0.2))
    assert written(proposed(sharper, Greedy())[0]) == "1(1(1))"


def test_a_tree_of_the_most_probable() -> None:
    draft, asked = proposed(DraftTree(FOUR, (2, 2, 1)), Greedy())
    assert written(draft) == "1(1(1) 2(0)) 2(0(1) 1(1))"
    assert [request.sequence.length for request in asked] == [1, 2, 2, 3, 3, 3, 3]
    assert all(each.drawn_from is None for each in draft)


def test_a_tree_is_not_wider_than_the_vocabulary() -> None:
    assert written(proposed(DraftTree(FOUR, (9,)), Greedy())[0]) == "1 2 3 0"
    assert written(proposed(DraftTree(FOUR, (9,), "distinct"), Sampling(top_k=2))[0]) == "1 2"
    assert written(proposed(DraftTree(FOUR, (3,), "independent"), Sampling(top_k=2))[0]) == "1 1 1"


def test_a_tree_asks_nothing_after_a_stop() -> None:
    draft, asked = proposed(DraftTree(FOUR, (2, 2, 2)), Greedy(), tokens=1)
    assert written(draft) == "1 2"
    assert len(asked) == 1


def test_greedy_leaves_but_one_to_draw() -> None:
    assert written(proposed(DraftTree(FOUR, (3, 3), "distinct"), Greedy())[0]) == "1(1)"


def test_distinct_alternatives_are_drawn_from_what_is_left() -> None:
    first, second = proposed(DraftTree(FOUR, (2,), "distinct"), Sampling())[0]
    assert (first.token, second.token) == (0, 1)
    assert first.probabilities_of(np.arange(4)) == pytest.approx([0.1, 0.4, 0.3, 0.2])
    assert second.probabilities_of(np.arange(4)) == pytest.approx([0, 4 / 9, 3 / 9, 2 / 9])


# ---- Prompt lookup -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "draft"),
    [
        ([1, 2, 3], []),  # nothing occurred before
        ([1, 2, 1], [2, 1]),
        ([1, 2, 3, 4, 1, 2], [3, 4, 1]),
        ([1, 2, 5, 2, 6, 1, 2], [5, 2, 6]),  # the longer match counts, not the later one
        ([1, 2, 5, 1, 2, 6, 1, 2], [6, 1, 2]),  # of equal ones, the later
        ([7, 7, 7, 7], [7]),  # may overlap itself
        ([9, 1, 2, 3, 5, 8, 1, 2, 3, 6, 9, 1, 2, 3], [6, 9, 1]),  # not more than max_ngram are compared
        ([1], []),
    ],
)
def test_what_is_looked_up(tokens: list[int], draft: list[int]) -> None:
    found = PromptLookup(num_tokens=3, max_ngram=3, factor=3).look_up(np.array(tokens))
    assert found == ([tuple(draft)] if draft else [])


def test_several_continuations_are_different_and_the_latest_come_first() -> None:
    tokens = np.array([1, 5, 1, 6, 1, 7, 1, 6, 1])
    assert PromptLookup(1, max_ngram=1, num_drafts=2).look_up(tokens) == [(6,), (7,)]
    assert PromptLookup(1, max_ngram=1, num_drafts=9).look_up(tokens) == [(6,), (7,), (5,)]
    assert PromptLookup(3, max_ngram=1, num_drafts=2, factor=3).look_up(tokens) == [(6, 1), (7, 1, 6)]


def test_too_short_a_match_does_not_count() -> None:
    tokens = np.array([1, 2, 3, 1])
    assert PromptLookup(min_ngram=1).look_up(tokens) == [(2,)]
    assert PromptLookup(min_ngram=2).look_up(tokens) == []


def test_a_longer_match_is_trusted_for_longer() -> None:
    for ngram, drafts in enumerate(([], [(1,)], [(1, 2)], [(1, 2, 3)], [(1, 2, 3)])):
        tokens = np.array([6, 7, 8, 9, 1, 2, 3, 5, *[6, 7, 8, 9][4 - ngram :]])
        assert PromptLookup(num_tokens=3).look_up(tokens) == drafts
    assert PromptLookup(num_tokens=3, factor=2).look_up(np.array([9, 1, 2, 3, 5, 9])) == [(1, 2)]
    assert PromptLookup(num_tokens=3, factor=0.1).look_up(np.array([9, 1, 2, 3, 5, 9])) == [(1,)]


texts = st.lists(st.integers(0, 2), min_size=1, max_size=30).map(np.array)


@given(texts, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.sampled_from([0.5, 1, 1.5, 4]))
def test_lookup_agrees_with_the_definition(
    tokens: Any, min_ngram: int, more: int, num_drafts: int, factor: float
) -> None:
    lookup = PromptLookup(4, min_ngram + more, min_ngram, num_drafts, factor)
    expected: list[tuple[int, ...]] = []
    for ngram in range(lookup.max_ngram, lookup.min_ngram - 1, -1):
        matches = [end for end in range(ngram, len(tokens)) if (tokens[end - ngram : end] == tokens[-ngram:]).all()]
        if matches:
            size = min(4, max(1, int(ngram * factor)))
            found = [tuple(tokens[end : end + size].tolist()) for end in reversed(matches)]
            expected = list(dict.fromkeys(found))[:num_drafts]
            break
    assert lookup.look_up(tokens) == expected


# ---- Suffix index ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "draft"),
    [
        ([1, 2, 3], ""),
        ([1, 2, 1], "2(1)"),
        ([1, 5, 2, 1, 5, 3, 1, 6, 4, 1], "5(3)"),  # twice is more often than once, though earlier; then the later
        ([1, 2, 3, 4, 5, 1, 2, 3], "4(5(1(2(3))))"),  # a longer end is trusted for longer: here until the text ends
        ([1, 2, 3, 4, 5, 9, 2], "3(4)"),  # and an end of one token for two
    ],
)
def test_what_follows_most_often(tokens: list[int], draft: str) -> None:
    path = SuffixIndex().look_up(np.array(tokens))
    assert all(longer[: len(path[place])] == path[place] for place, longer in enumerate(path[1:]))
    text = ""
    for token in reversed(path[-1] if path else ()):
        text = f"{token}({text})" if text else str(token)
    assert text == draft


def test_alternatives_come_by_frequency() -> None:
    tokens = np.array([1, 5, 1, 6, 1, 5, 1, 7, 1])
    assert SuffixIndex(3, factor=9, branching=True).look_up(tokens) == [(5,), (5, 1), (7,)]
    assert SuffixIndex(9, factor=9, branching=True, min_probability=0.4).look_up(tokens) == [(5,), (5, 1)]


def test_an_end_is_not_looked_up_beyond_its_greatest_length() -> None:
    tokens = np.array([3, 1, 2, 8, 4, 1, 2, 9, 3, 1, 2])
    assert SuffixIndex(1).look_up(tokens) == [(8,)]
    assert SuffixIndex(1, max_length=2).look_up(tokens) == [(9,)]


def best_tree(tokens: list[int], index: SuffixIndex) -> tuple[float, dict[tuple[int, ...], float]]:
    """By the definition, counting anew for every end: the best score, and the probabilities in the tree that has it."""
    best = 0.0, dict[tuple[int, ...], float]()
    for length in range(1, min(len(tokens), index.max_length + 1)):
        after = [tokens[p:] for p in range(length, len(tokens)) if tokens[p - length : p] == tokens[-length:]]
        tree = {(): 1.0}
        for depth in range(index.num_tokens):
            going_on = [tuple(each[: depth + 1]) for each in after if len(each) > depth]
            parents = Counter(path[:-1] for path in going_on)
            for path, count in Counter(going_on).items():
                share = tree.get(path[:-1], 0.0) * count / parents[path[:-1]]
                if share >= index.min_probability:
                    tree[path] = share
        del tree[()]
        score = sum(sorted(tree.values(), reverse=True)[: min(index.num_tokens, int(length * index.factor))])
        if tree and score >= best[0] - 1e-9:
            best = score, tree
    return best


@settings(deadline=None)
@given(texts, st.integers(1, 6), st.sampled_from([0.5, 1.0, 2.5]), st.sampled_from([0.1, 0.34, 1.0]))
def test_the_best_draft_agrees_with_the_definition(tokens: Any, size: int, factor: float, least: float) -> None:
    index = SuffixIndex(size, factor, least, branching=True)
    found = index.look_up(tokens)
    score, tree = best_tree(tokens.tolist(), index)
    assert sum(tree[path] for path in found) == pytest.approx(score)
    assert len({*found}) == len(found) <= size
    assert all(path[:-1] in ((), *found) for path in found)


# ---- Siblings and configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("proposer", [PromptLookup(2), SuffixIndex()], ids=lambda one: one.name)
def test_siblings_do_not_see_each_others_history(proposer: Any) -> None:
    prompt = Vocabulary(9).prompt([1, 2, 3])
    one, other = prompt + [4, 1, 2], prompt + [5, 1, 2]
    assert [each[-1][:2] for each in map(proposer.look_up, (one.tokens, other.tokens))] == [(3, 4), (3, 5)]


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: DraftModel(3), "model"),  # type: ignore[arg-type]
        (lambda: DraftModel("smollm2", 0), "num_tokens"),
        (lambda: DraftModel("smollm2", threshold=0), "threshold"),
        (lambda: DraftTree(3), "model"),  # type: ignore[arg-type]
        (lambda: DraftTree("smollm2", ()), "widths"),
        (lambda: DraftTree("smollm2", (2, 0)), "widths"),
        (lambda: DraftTree("smollm2", 2), "widths"),  # type: ignore[arg-type]
        (lambda: DraftTree("smollm2", (2, 1.5)), "widths"),  # type: ignore[arg-type]
        (lambda: DraftTree("smollm2", alternatives="best"), "alternatives"),  # type: ignore[arg-type]
        (lambda: EarlyExit(0), "layer"),
        (lambda: EarlyExit(1, 0), "num_tokens"),
        (lambda: EarlyExit(1, threshold=1.5), "threshold"),
        (lambda: PromptLookup(0), "num_tokens"),
        (lambda: PromptLookup(max_ngram=1, min_ngram=2), "max_ngram"),
        (lambda: PromptLookup(min_ngram=0), "min_ngram"),
        (lambda: PromptLookup(num_drafts=0), "num_drafts"),
        (lambda: PromptLookup(factor=0), "factor"),
        (lambda: SuffixIndex(0), "num_tokens"),
        (lambda: SuffixIndex(factor=0), "factor"),
        (lambda: SuffixIndex(factor=float("inf")), "factor"),
        (lambda: SuffixIndex(min_probability=0), "min_probability"),
        (lambda: SuffixIndex(max_length=0), "max_length"),
    ],
)
def test_a_parameter_out_of_range_is_named(build: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{named}`"):
        build()
