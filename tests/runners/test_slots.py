"""The plan of rows and slots, carried out by a fake model that notices every wrong row, mask and position."""

from __future__ import annotations

import gc
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdecode.errors import CacheError, ConfigurationError
from ovdecode.forward import Answer, Forward
from ovdecode.numerics import logsumexp
from ovdecode.runners.base import ModelRunner, Pending
from ovdecode.runners.slots import Slots, Step
from ovdecode.sequence import Sequence
from ovdecode.testing.runners import check_runner
from ovdecode.vocabulary import Vocabulary

VOCAB = 6


def fold(seen: list[tuple[int, int, int]]) -> int:
    """A 'hidden state' that depends on every visible token, its position and its own hidden state."""
    return hash(tuple(sorted(seen)))


class FakeRunner(ModelRunner):
    """Attention whose output is a hash of what it sees; a cache of rows that obeys the steps of `Slots`."""

    name = "fake"
    incremental = True

    def __init__(self, capacity: int = 10_000) -> None:
        self.vocab_size, self.slots = VOCAB, Slots(capacity)
        self.rows: list[list[tuple[int, int, int]]] = []  # (position, token, hidden) of every slot
        self.steps: list[Step] = []
        self.computed = 0

    def recompute(self, tokens: npt.NDArray[np.int64], request: Forward) -> Answer:
        seen: list[tuple[int, int, int]] = []
        for position, token in enumerate(tokens.tolist()):
            seen.append((position, token, fold([*seen, (position, token, 0)])))
        return self.answer([hidden for _, _, hidden in seen[len(seen) - request.rows :]])

    def submit(self, requests: Items[Forward]) -> Pending:
        if not all(request.plain for request in requests):
            raise ConfigurationError("`hidden` is not to be had of this fake")
        live = [one for one in requests if one.rows or self.slots.missing(one.sequence)]
        found: dict[int, Answer] = {}
        if live:
            step = self.slots.plan([(one.sequence, one.rows) for one in live])
            hidden = self.run(step)
            self.slots.commit(step)
            for start, one in zip(step.starts, live, strict=True):
                found[id(one)] = self.answer(hidden[start : start + one.rows])
        return lambda: [found.get(id(one)) or self.answer([]) for one in requests]

    def run(self, step: Step) -> list[int]:
        rows, time = step.input_ids.shape
        past = 0 if step.reset else len(self.rows[0])
        assert step.beam_idx.shape == (rows,)
        assert step.attention_mask.shape == (rows, past + time)
        assert step.attention_mask.size <= self.slots.capacity
        self.rows = [[] for _ in range(rows)] if step.reset else [list(self.rows[i]) for i in step.beam_idx]
        outputs = []
        for row, slots in enumerate(self.rows):
            for column in range(time):
                token = (int(step.position_ids[row, column]), int(step.input_ids[row, column]))
                mask = step.attention_mask[row]
                seen = [slot for place, slot in enumerate(slots) if mask[place]]
                assert seen or mask[len(slots)], "a query that sees nothing gives NaN"
                slots.append((*token, fold([*seen, (*token, 0)])))
                outputs.append(slots[-1][2])
        self.steps.append(step)
        self.computed += rows * time
        return [outputs[place] for place in step.wanted_rows]

    def answer(self, hidden: list[int]) -> Answer:
        rows = [np.random.default_rng(abs(one)).normal(size=VOCAB).astype(np.float32) for one in hidden]
        logits = np.array(rows, np.float32).reshape(len(hidden), VOCAB)
        logits.flags.writeable = False
        sums = np.array([logsumexp(row) for row in logits], np.float32)
        sums.flags.writeable = False
        return Answer(logits, sums)

    def missing(self, request: Forward) -> int:
        return self.slots.missing(request.sequence)

    def room(self, requests: Items[Forward]) -> int:
        return self.slots.fits([request.sequence for request in requests])

    @property
    def cache_in_use(self) -> int:
        return self.slots.in_use


def ask(runner: FakeRunner, *requests: Forward | Sequence) -> list[Answer]:
    """Ask, in as many calls as the cache needs, and compare with recomputing."""
    todo = [one if isinstance(one, Forward) else Forward(one) for one in requests]
    answers: list[Answer] = []
    while len(answers) < len(todo):
        batch = todo[len(answers) :]
        answers += runner.forward(batch[: runner.room(batch)])
    for request, answer in zip(todo, answers, strict=True):
        expected = runner.recompute(request.sequence.tokens, request)
        assert answer.logits.tobytes() == expected.logits.tobytes(), request
    return answers


number = st.integers(0, 1_000)
action = st.tuples(st.sampled_from(["grow", "fork", "back", "new", "drop", "deep"]), number, number)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(action, max_size=5), number, number), max_size=12), st.integers(24, 400))
def test_any_tree_of_requests(script: list[Any], capacity: int) -> None:
    vocabulary = Vocabulary(VOCAB)
    runner = FakeRunner(capacity)
    live = [vocabulary.prompt([1, 2, 3])]
    for actions, asked, last in script:
        for kind, which, token in actions:
            place = which % len(live)
            one = live[place]
            if kind == "grow" and one.length < 20:
                live[place] = one + token % VOCAB
            elif kind == "deep" and one.length < 16:
                live[place] = one + [token % VOCAB, token // VOCAB % VOCAB, 0]
            elif kind == "fork" and one.length < 20:
                live.append(one + token % VOCAB)
            elif kind == "back" and one.length > 1:
                live[place] = one[: 1 + token % one.length]
            elif kind == "new":
                live.append(vocabulary.prompt([token % VOCAB] * (1 + which % 5)))
            elif kind == "drop" and len(live) > 1:
                live.pop(place)
            del one
        chosen = [one for place, one in enumerate(dict.fromkeys(live)) if asked >> place % 9 & 1]
        requests = [Forward(one, last=None if last % 3 else last % (one.length + 1)) for one in chosen]
        ask(runner, *requests)
        if chosen:
            assert runner.cache_in_use >= 1
        assert all(runner.missing(Forward(one)) <= one.length for one in live)
        del chosen, requests
    live.clear()
    gc.collect()
    assert runner.cache_in_use == 0


@pytest.mark.parametrize("seed", range(4))
def test_check_runner_accepts_it(seed: int) -> None:
    check_runner(FakeRunner(), seed=seed, rounds=30)
    check_runner(FakeRunner(capacity=150), seed=seed, rounds=30)


@pytest.mark.parametrize("fault", ["keeps what was taken back", "positions are slots", "rows are not gathered"])
def test_check_runner_sees_a_wrong_plan(fault: str) -> None:
    class Broken(FakeRunner):
        def run(self, step: Step) -> list[int]:
            if fault == "keeps what was taken back":
                step.attention_mask[:, : -step.input_ids.shape[1]] = 1
            elif fault == "positions are slots":
                step.position_ids[:] = np.arange(step.input_ids.shape[1]) + self.slots.columns
            else:
                step.beam_idx[:] = np.minimum(np.arange(len(step.beam_idx)), max(len(self.rows) - 1, 0))
            return super().run(step)

        def missing(self, request: Forward) -> int:
            return min(super().missing(request), request.sequence.length)

    with pytest.raises(AssertionError):
        check_runner(Broken(), rounds=30)


def test_a_decoding_step_feeds_one_token_and_moves_no_row() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    one, two = vocabulary.prompt([1, 2, 3]), vocabulary.prompt([2, 2])
    ask(runner, one, two)
    ask(runner, one + 4, two + 5)
    step = runner.steps[-1]
    assert step.beam_idx.tolist() == [0, 1]
    assert step.input_ids.tolist() == [[4], [5]]
    assert step.position_ids.tolist() == [[3], [2]]
    assert step.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 1]]
    assert step.wanted_rows.tolist() == [0, 1]


def test_forks_name_their_row_twice_and_a_finished_row_is_dropped() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    one, two = vocabulary.prompt([1, 2, 3]), vocabulary.prompt([2, 2])
    ask(runner, one, two)
    del one
    forks = [two + 1, two + 2]
    ask(runner, *forks)
    assert runner.steps[-1].beam_idx.tolist() == [1, 1]
    assert runner.cache_in_use == 2


def test_taking_back_masks() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    draft = vocabulary.prompt([1, 2, 3]) + [4, 5]
    ask(runner, Forward(draft, last=3))
    other = draft[:4] + 0
    del draft
    ask(runner, other)
    step = runner.steps[-1]
    assert step.attention_mask.tolist() == [[1, 1, 1, 1, 0, 1]]
    assert step.position_ids.tolist() == [[4]]


def test_asking_again_feeds_the_wanted_tokens_only() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    one = vocabulary.prompt([1, 2, 3])
    ask(runner, one)
    ask(runner, one)
    assert runner.steps[-1].input_ids.tolist() == [[3]]
    assert runner.steps[-1].attention_mask.tolist() == [[1, 1, 0, 1]]
    before = len(runner.steps)
    ask(runner, Forward(one, last=0))
    assert len(runner.steps) == before


def test_an_idle_row_costs_no_more_dummies_than_recomputing_it() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    idle, busy = vocabulary.prompt([1] * 5), vocabulary.prompt([2] * 5)
    ask(runner, idle, busy)
    for _ in range(5):
        busy = busy + 3
        ask(runner, busy)
        assert runner.missing(Forward(idle)) == 0
    busy = busy + 3
    ask(runner, busy)
    assert runner.missing(Forward(idle)) == 5
    ask(runner, idle, busy)


def test_wasted_slots_are_given_up() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    one = vocabulary.prompt([1] * 8)
    for _ in range(200):
        ask(runner, Forward(one, last=4))
        assert runner.slots.columns <= 2 * 8 + 64
    assert runner.computed < 200 * 4 + 20 * 8


def test_a_failing_inference_loses_the_cache_but_no_answer() -> None:
    runner, vocabulary = FakeRunner(), Vocabulary(VOCAB)
    one = vocabulary.prompt([1, 2, 3])
    ask(runner, one)
    runner.slots.plan([(one + 1, 1)])  # never committed
    ask(runner, one + 1)
    assert runner.steps[-1].reset


def test_a_sequence_that_cannot_fit() -> None:
    runner, vocabulary = FakeRunner(capacity=8), Vocabulary(VOCAB)
    long = vocabulary.prompt([1] * 9)
    assert runner.room([Forward(long[:4]), Forward(long[:3]), Forward(long)]) == 2
    with pytest.raises(CacheError, match="cache_bytes"):
        runner.forward([Forward(long)])
