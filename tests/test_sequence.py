"""The token tree: sharing, forking and taking back, and what is remembered on its nodes."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ovdecode import Fold, Sequence, Vocabulary
from ovdecode.errors import TokenError
from ovdecode.sequence import _nodes


@pytest.fixture
def letters() -> Vocabulary:
    return Vocabulary(26)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_equal_sequences_are_one_object(letters: Vocabulary) -> None:
    one, other = letters.prompt([1, 2]), letters.prompt([1, 2])
    assert one is other
    assert one + 3 is other + [3]
    assert one + [3, 4] is one + 3 + np.int64(4)
    assert one + 3 is not one + 4
    assert hash(one + 3) == hash(other + 3)
    assert one + [] is one


def test_the_border_of_the_prompt_is_part_of_a_sequence(letters: Vocabulary) -> None:
    prompt = letters.prompt([1, 2])
    assert prompt + 3 is not prompt.extend_prompt([3])
    assert (prompt + [3, 4]).prompt is prompt
    assert (prompt + [3, 4]).prompt_length == 2
    assert prompt.extend_prompt([3]).prompt is letters.prompt([1, 2, 3])
    assert (prompt + [3, 4]).generated.tolist() == [3, 4]
    assert (prompt + [3, 4]).generated_length == 2
    assert prompt.generated.tolist() == []


def test_a_prompt_that_goes_on_takes_what_was_generated_in(letters: Vocabulary) -> None:
    turn = (letters.prompt([1]) + [2, 3]).extend_prompt([4])
    assert (turn.prompt_length, turn.generated.tolist(), turn.logprob) == (4, [], 0.0)
    assert turn.prompt is turn
    assert (turn + 5).prompt is turn
    assert turn[:3] is letters.prompt([1]) + [2, 3]


def test_vocabularies_do_not_share_sequences(letters: Vocabulary) -> None:
    other = Vocabulary(26)
    assert letters.prompt([1]) is not other.prompt([1])
    assert letters.prompt([1]).vocabulary is letters
    assert letters.root is letters.root is not other.root


def test_a_fork_leaves_its_sibling_as_it_was(letters: Vocabulary) -> None:
    stem = letters.prompt([0, 1])
    left, right = stem + [2, 3], stem + [4, 5]
    assert [list(each) for each in (stem, left, right)] == [[0, 1], [0, 1, 2, 3], [0, 1, 4, 5]]
    assert left.parent is not None
    assert left.parent.parent is stem


def test_tokens_are_taken_back_by_a_slice(letters: Vocabulary) -> None:
    sequence = letters.prompt([0, 1]) + [2, 3]
    assert sequence[:3] is letters.prompt([0, 1]) + 2
    assert sequence[:-1] is sequence[:3]
    assert sequence[:1] is letters.prompt([0])
    assert sequence[:0] is letters.root
    assert sequence[:99] is sequence[:] is sequence[0:] is sequence
    assert sequence[:-99] is letters.root


@pytest.mark.parametrize("cut", [slice(1, None), slice(1, 3), slice(None, None, 2), slice(None, None, -1)])
def test_a_sequence_is_cut_at_its_end_only(letters: Vocabulary, cut: slice) -> None:
    with pytest.raises(IndexError, match="cut at its end only"):
        letters.prompt([0, 1, 2, 3])[cut]


def test_a_sequence_reads_as_a_list(letters: Vocabulary) -> None:
    sequence = letters.prompt([4, 5]) + 6
    assert (len(sequence), sequence[0], sequence[-1], list(sequence)) == (3, 4, 6, [4, 5, 6])
    assert isinstance(sequence[1], int)
    assert 5 in sequence
    assert repr(sequence) == "Sequence([4, 5] + [6])"
    assert letters.root  # an empty sequence is no nothing
    assert list(letters.root) == []
    with pytest.raises(IndexError):
        sequence[3]


def test_tokens_are_read_only(letters: Vocabulary) -> None:
    sequence = letters.prompt([4, 5]) + 6
    for array in (sequence.tokens, sequence.generated):
        assert array.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_tokens_that_are_held_stay_as_they_are(letters: Vocabulary) -> None:
    """A chain shares one buffer: a fork, and a child after taking back, must not write into it."""
    sequence = letters.prompt([0] * 10)
    held = [(sequence, sequence.tokens)]
    for token in range(200):
        sequence = sequence + token % 26
        held.append((sequence, sequence.tokens))
        if token % 7 == 0:
            fork = sequence[: max(1, sequence.length - 3)] + [25, 25]
            held.append((fork, fork.tokens))
    for node, tokens in held:
        walk, expected = node, []
        while walk.parent is not None:
            expected.append(walk.token)
            walk = walk.parent
        assert tokens.tolist() == expected[::-1] == node.tokens.tolist()


def test_a_child_after_a_dropped_one_takes_its_place(letters: Vocabulary) -> None:
    sequence = letters.prompt([0, 1])
    gone = sequence + 2
    tokens = gone.tokens
    del gone
    assert (sequence + 3).tokens.tolist() == [0, 1, 3]
    assert tokens.tolist() == [0, 1, 2]


def test_the_path_is_the_nodes_after_a_length(letters: Vocabulary) -> None:
    sequence = letters.prompt([0, 1]) + [2, 3]
    assert sequence.path(2) == [sequence[:3], sequence]
    assert sequence.path(4) == []
    assert [node.length for node in sequence.path(0)] == [1, 2, 3, 4]


@pytest.mark.parametrize("token", [-1, 26, 10**9, -(10**9)])
def test_a_token_outside_the_vocabulary(letters: Vocabulary, token: int) -> None:
    adds = (lambda: letters.root + token, lambda: letters.prompt([token]), lambda: letters.root + [1, token])
    for add in adds:
        with pytest.raises(TokenError, match=f"`token` must be between 0 and 25, got {token}"):
            add()


@pytest.mark.usefixtures("no_collector")
def test_the_last_reference_frees_a_sequence(letters: Vocabulary) -> None:
    before = len(_nodes)
    sequence = letters.prompt([1, 2, 3])
    fork = sequence[:2] + 9
    assert len(_nodes) == before + 4
    del sequence
    assert len(_nodes) == before + 3
    del fork
    assert len(_nodes) == before


@pytest.mark.usefixtures("no_collector")
def test_a_chain_of_100_000_is_made_and_freed(letters: Vocabulary) -> None:
    before, limit = len(_nodes), sys.getrecursionlimit()
    total = Fold(0, lambda state, sequence: state + sequence.token)
    sequence = letters.prompt([1])
    for _ in range(99_999):
        sequence = sequence + 1
    assert total(sequence) == 100_000
    assert (sequence.length, sequence[:1].token, int(sequence.tokens.sum())) == (100_000, 1, 100_000)
    assert len(_nodes) == before + 100_000
    fork = sequence[:50_000] + 2
    del sequence
    assert len(_nodes) == before + 50_001
    del fork
    assert len(_nodes) == before
    assert sys.getrecursionlimit() == limit


# Probability


def answer(sequence: Sequence, *logits: float) -> None:
    row = np.array(logits, np.float32)
    sequence.answered(row, math.log(sum(math.exp(each) for each in logits)))


def test_children_learn_their_probability() -> None:
    prompt = Vocabulary(2).prompt([0])
    assert prompt.logprob == 0.0
    answer(prompt, math.log(3), 0.0)
    zero, one = prompt + 0, prompt + 1
    assert (zero.logprob, one.logprob) == (pytest.approx(math.log(0.75)), pytest.approx(math.log(0.25)))
    answer(zero, 0.0, 0.0)
    assert (zero + 1).logprob == pytest.approx(math.log(0.375))
    assert math.isnan((one + 1).logprob)


def test_a_child_made_before_the_answer_learns_when_it_is_made_again() -> None:
    prompt = Vocabulary(2).prompt([0])
    child = prompt + 1
    assert math.isnan(child.logprob)
    answer(prompt, 0.0, 0.0)
    assert math.isnan(child.logprob)
    assert (prompt + 1) is child
    assert child.logprob == pytest.approx(math.log(0.5))


def test_what_was_learned_stays_when_the_answer_is_forgotten() -> None:
    prompt = Vocabulary(2).prompt([0])
    answer(prompt, 0.0, 0.0)
    child = prompt + 1
    prompt.forget_answer()
    assert child.logprob == pytest.approx(math.log(0.5))
    assert math.isnan((prompt + 0).logprob)


def test_an_unknown_step_makes_all_after_it_unknown() -> None:
    prompt = Vocabulary(2).prompt([0])
    forced = prompt + 1
    answer(forced, 0.0, 0.0)
    assert math.isnan((forced + 1).logprob)


def test_a_prompts_tokens_cost_nothing() -> None:
    prompt = Vocabulary(2).prompt([0])
    answer(prompt, 0.0, 5.0)
    assert prompt.extend_prompt([1]).logprob == 0.0
    assert (prompt + 1).extend_prompt([1]).logprob == 0.0


# Folds


def test_a_fold_steps_once_for_each_node(letters: Vocabulary) -> None:
    seen: list[int] = []

    def step(state: int, sequence: Sequence) -> int:
        seen.append(sequence.token)
        return state + sequence.token

    total = Fold(0, step)
    stem = letters.prompt([1, 2])
    left, right = stem + 3, stem + 4
    assert [total(each) for each in (left, right, left, stem, letters.root)] == [6, 7, 6, 3, 0]
    assert seen == [1, 2, 3, 4]


def test_siblings_do_not_share_a_state(letters: Vocabulary) -> None:
    counts: Fold[dict[int, int]] = Fold(
        {}, lambda state, sequence: {**state, sequence.token: state.get(sequence.token, 0) + 1}
    )
    stem = letters.prompt([1])
    beams = [stem + [token, token] for token in range(5)]
    assert [counts(beam) for beam in beams] == [{1: 1, token: 2} if token != 1 else {1: 3} for token in range(5)]
    assert counts(stem) == {1: 1}


def test_a_fold_of_what_is_generated_begins_after_the_prompt(letters: Vocabulary) -> None:
    total = Fold(0, lambda state, sequence: state + sequence.token, generated=True)
    prompt = letters.prompt([5, 6])
    assert (total(prompt), total(prompt + [1, 2]), total(letters.root)) == (0, 3, 0)
    assert total((prompt + 1).extend_prompt([9]) + 2) == 2
    assert total(prompt.extend_prompt([1]) + 2) == 2


def test_folds_with_one_key_share_what_they_remember(letters: Vocabulary) -> None:
    calls: list[int] = []

    def step(state: int, sequence: Sequence) -> int:
        calls.append(sequence.token)
        return state + 1

    one, other, own = Fold(0, step, key="mine"), Fold(0, step, key="mine"), Fold(0, step)
    sequence = letters.prompt([1, 2, 3])
    assert (one(sequence), other(sequence), own(sequence)) == (3, 3, 3)
    assert len(calls) == 6


def test_a_fold_that_raises_remembers_what_it_had(letters: Vocabulary) -> None:
    fails = [True]

    def step(state: int, sequence: Sequence) -> int:
        if sequence.token == 3 and fails:
            raise ValueError("three")
        return state + 1

    count, sequence = Fold(0, step), letters.prompt([1, 2, 3])
    with pytest.raises(ValueError, match="three"):
        count(sequence)
    fails.clear()
    assert count(sequence) == 3


@pytest.mark.usefixtures("no_collector")
def test_what_a_fold_remembers_goes_with_its_node(letters: Vocabulary) -> None:
    class State:
        alive = 0

        def __init__(self) -> None:
            State.alive += 1

        def __del__(self) -> None:
            State.alive -= 1

    fold: Fold[Any] = Fold(None, lambda state, sequence: State())
    sequence = letters.prompt([1, 2, 3])
    fold(sequence)
    assert State.alive == 3
    del sequence
    assert State.alive == 0


class Tree(RuleBasedStateMachine):
    """The tree against plain lists of tokens, a prompt length and a table of known probabilities."""

    @initialize()
    def begin(self) -> None:
        self.vocabulary = Vocabulary(5)
        self.live: list[tuple[Sequence, list[int], int]] = [(self.vocabulary.root, [], 0)]
        self.total = Fold((), lambda state, sequence: (*state, sequence.token))
        self.held: list[tuple[Any, list[int]]] = []

    places, tokens = st.integers(0, 99), st.lists(st.integers(0, 4), max_size=70)

    def pick(self, place: int) -> tuple[Sequence, list[int], int]:
        return self.live[place % len(self.live)]

    @rule(place=places, tokens=tokens)
    def extend(self, place: int, tokens: list[int]) -> None:
        sequence, known, border = self.pick(place)
        self.live.append((sequence + tokens, known + tokens, border))

    @rule(place=places, tokens=tokens)
    def extend_prompt(self, place: int, tokens: list[int]) -> None:
        sequence, known, border = self.pick(place)
        border = len(known) + len(tokens) if tokens else border
        self.live.append((sequence.extend_prompt(tokens), known + tokens, border))

    @rule(place=places, back=st.integers(0, 80))
    def take_back(self, place: int, back: int) -> None:
        sequence, known, border = self.pick(place)
        length = max(0, len(known) - back)
        cut = sequence[:length]
        if length >= border:
            self.live.append((cut, known[:length], border))
        else:
            assert cut.tokens.tolist() == known[:length]
            assert cut.prompt_length <= length

    @precondition(lambda self: len(self.live) > 1)
    @rule(place=places)
    def drop(self, place: int) -> None:
        self.live.pop(place % len(self.live))

    @rule(place=places)
    def hold(self, place: int) -> None:
        sequence, known, _ = self.pick(place)
        self.held.append((sequence.tokens, list(known)))

    @invariant()
    def reads_as_its_list(self) -> None:
        for sequence, known, border in getattr(self, "live", [])[-4:]:
            assert list(sequence) == known
            assert (sequence.prompt_length, sequence.generated.tolist()) == (border, known[border:])
            assert self.total(sequence) == tuple(known)
        for tokens, known in getattr(self, "held", []):
            assert tokens.tolist() == known

    @invariant()
    def equal_ones_are_one(self) -> None:
        seen: dict[Any, Sequence] = {}
        for sequence, known, border in getattr(self, "live", []):
            path = [node.prompt_length for node in sequence.path(0)]
            assert seen.setdefault((tuple(known), border, tuple(path)), sequence) is sequence


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_positions_may_be_numpy_numbers_and_tokens_must_be_whole():
    sequence = Vocabulary(5).prompt([1, 2])
    assert sequence[np.int64(1)] == 2
    with pytest.raises(TypeError, match="float"):
        sequence + [1.9]


def test_a_deferred_child_knows_its_probability_though_the_answer_is_forgotten() -> None:
    prompt = Vocabulary(3).prompt([0])
    logits = np.array([0.1, 0.7, 0.3], np.float32)
    prompt.answered(logits, 1.5)
    now, later = prompt + 2, prompt.deferred(np.array([1, 2]))
    prompt.forget_answer()
    assert later(1) is now
    child = later(0)
    assert (child.token, child.logprob) == (1, 0.0 + float(logits[1]) - 1.5)
    assert np.isnan(prompt.deferred(np.array([0]))(0).logprob)  # nothing is known by now
