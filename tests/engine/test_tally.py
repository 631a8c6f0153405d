"""What a task is said to have cost: literal cases on a runner whose cache takes a byte a token."""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np
import pytest
from engine_fakes import VOCAB, Counting, Script, model, run
from hypothesis import given
from hypothesis import strategies as st

from ovdecode.engine import Task
from ovdecode.engine.tally import Tally
from ovdecode.forward import Forward
from ovdecode.generation import Cost
from ovdecode.sequence import Sequence


class ByteACount(Counting):
    token_bytes = 1


def cost(function: Any, prompt: tuple[int, ...] = (0, 1, 2), beside: int = 0) -> Cost:
    """What a script costs alone; or beside that many others, which decode the same sequences and longer ones."""
    letters = model(ByteACount(np.zeros((VOCAB, VOCAB))))
    others = [Task(letters, prompt, max_new_tokens=9, sample=sample) for sample in range(beside)]
    found, *_ = run(Task(letters, prompt, Script(function)), *others)
    assert found.error is None
    return found.cost


def bytes_of(function: Any) -> int:
    alone, among = cost(function), cost(function, beside=3)
    assert alone.cache_bytes == among.cache_bytes
    assert alone.forwards == among.forwards
    return alone.cache_bytes


def test_greedy_needs_the_prompt_and_all_its_tokens_but_the_last() -> None:
    (found,) = run(Task(model(ByteACount()), [0, 1, 2], max_new_tokens=5))
    assert found.cost.cache_bytes == 3 + 4
    (found,) = run(Task(model(Counting()), [0, 1, 2], max_new_tokens=5))
    assert found.cost.cache_bytes == 0  # a table keeps nothing


def test_what_sequences_begin_with_counts_once() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Any:
        common = prompt + 3
        yield [common + [4, 5], common + [4, 6], common + 7, common]
        return prompt

    assert bytes_of(decode) == 3 + 1 + 3 + 1  # the prompt, d, efg without the branch that is f alone, h


def test_it_is_the_most_of_all_rounds() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Any:
        yield prompt
        yield [prompt + 3, prompt + 4, prompt + 5]
        yield prompt + [3, 4]  # the other two are gone
        return prompt

    assert bytes_of(decode) == 3 + 3


def test_what_was_dropped_and_comes_again_counts_again() -> None:
    """Sequences of the last round may be gone, and new ones of the same tokens are other objects."""

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Any:
        for _ in range(3):
            yield [prompt + [token, token] for token in range(4)]
            yield prompt
        return prompt

    assert bytes_of(decode) == 3 + 8


def test_a_request_made_twice_counts_once() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Any:
        yield [prompt + 1, Forward(prompt + 1), Forward(prompt + 1, last=2)]
        return prompt

    assert bytes_of(decode) == 4
    assert (cost(decode).forwards, cost(decode).tokens) == (1, 4)


def test_a_model_that_is_not_asked_keeps_what_it_has() -> None:
    small, large = model(ByteACount()), model(type("TwoBytes", (Counting,), {"token_bytes": 2})())

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Any:
        yield prompt
        yield Forward(prompt + 3, model=small)
        yield prompt + [3, 4]
        return prompt

    (found,) = run(Task(large, [0, 1, 2], Script(decode)))
    assert found.cost.cache_bytes == 2 * 5 + 4


def test_nothing_is_held_for_it() -> None:
    letters = model(ByteACount())
    gone = []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Any:
        child = prompt + 3
        gone.append(ref(child))
        yield child
        del child
        yield prompt
        assert gone[0]() is None
        return prompt

    (found,) = run(Task(letters, [0, 1, 2], Script(decode)))
    assert found.error is None


@given(st.lists(st.lists(st.lists(st.integers(0, 1), max_size=4), min_size=1, max_size=3), max_size=8))
def test_it_is_what_walking_all_paths_in_every_round_says(rounds: list[list[list[int]]]) -> None:
    letters, tally = model(ByteACount()), Tally()
    prompt, seen, most, tokens = letters.vocabulary.prompt([0, 1]), set[Sequence](), 0, 0
    for tails in rounds:
        requests = [Forward(prompt + tail) for tail in tails]
        tally.add([(letters, request) for request in requests])
        nodes = [set(request.sequence.path(0)) for request in requests]
        for path in dict(zip((request.sequence for request in requests), nodes, strict=True)).values():
            tokens += max(len(path - seen), 1)
            seen |= path
        most = max(most, len(set.union(*nodes)))
    assert (tally.forwards, tally.tokens, tally.cache_bytes) == (len(rounds), tokens, most)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("sampling", 3 + 5),
        ("beam:num_beams=2", 3 + 4 + 2),  # of equal scores the lower ids: these two differ in the last letter alone
        ("best_of_n:n=3", 3 + 3 * 5),
    ],
)
def test_methods(method: str, expected: int) -> None:
    letters = model(ByteACount(np.eye(VOCAB, dtype=np.float32) * 1e-3))
    (found,) = run(Task(letters, [0, 1, 2], method, max_new_tokens=6))
    assert found.error is None
    assert found.cost.cache_bytes == expected
