"""A cache with limited room: the oldest first, everybody in the end, the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_fakes import VOCAB, Caching, Script, alive, counter, model, run
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdecode.engine import Engine, Task
from ovdecode.errors import CacheError
from ovdecode.forward import Forward
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding

RANDOM = np.random.default_rng(3).normal(size=(VOCAB, VOCAB))


def test_the_oldest_are_served_first_and_the_others_after_them() -> None:
    letters = model(Caching(tokens_that_fit=20))
    tasks = [Task(letters, [first] * 6, max_new_tokens=4) for first in range(4)]
    results = list(Engine().run(tasks))
    assert [each.index for each in results] == [0, 1, 2, 3]
    assert [each.error for each in results] == [None] * 4
    assert [len(each) for each in counter(letters).asked[:2]] == [3, 2]


def test_evicted_sequences_are_computed_again_with_the_same_results() -> None:
    wide, narrow = model(Caching(RANDOM)), model(Caching(RANDOM, tokens_that_fit=25))
    found = []
    for each in (wide, narrow):
        tasks = [Task(each, [first] * 6, "sampling", max_new_tokens=8, sample=first) for first in range(6)]
        found.append([(one.tokens, one.logprob, one.cost.forwards, one.cost.tokens) for one in run(*tasks)])
    assert found[0] == found[1]
    narrow_runner = counter(narrow)
    assert isinstance(narrow_runner, Caching)
    assert narrow_runner.evicted > 0


@pytest.mark.parametrize("max_tokens", [512, 7])
def test_what_can_not_fit_alone_fails_alone(max_tokens: int) -> None:
    """If not even the first part of a prompt fitted, this once went on for ever."""
    letters = model(Caching(tokens_that_fit=20))
    tasks = [
        Task(letters, [1] * 5, max_new_tokens=4),
        Task(letters, [2] * 30, max_new_tokens=4),
        Task(letters, [3] * 15, max_new_tokens=10),
        Task(letters, [4] * 5, max_new_tokens=4),
    ]
    first, long, grows, last = run(*tasks, max_tokens=max_tokens)
    assert (first.text, last.text) == ("cdef", "fghi")
    for broken, length in ((long, 30), (grows, 21)):
        assert isinstance(broken.error, CacheError)
        assert f"a sequence of {length} tokens must fit the cache" in str(broken.error)
        assert "cache_bytes" in str(broken.error)
    assert (long.text, grows.text) == ("", "efghij")
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


@pytest.mark.parametrize("fits", [3, 9])
def test_a_part_that_can_not_fit_ends_its_task(fits: int) -> None:
    letters = model(Caching(tokens_that_fit=fits))
    tasks = [Task(letters, list(range(20)), max_new_tokens=1), Task(letters, list(range(20)), "sampling")]
    found = run(*tasks, max_tokens=8)
    assert [type(each.error) for each in found] == [CacheError, CacheError]


def test_a_list_that_does_not_fit_at_once_is_answered_in_parts() -> None:
    letters, seen = model(Caching(tokens_that_fit=14)), []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        rows = yield [prompt + token for token in range(10)]
        seen.extend(int(row.argmax()) for row in rows)
        return prompt

    (found,) = run(Task(letters, [0] * 10, Script(decode)))
    assert found.error is None
    assert seen == list(range(1, 11))
    assert [len(each) for each in counter(letters).asked] == [4, 4, 2]


def test_one_impossible_request_of_a_list_fails_the_task() -> None:
    letters = model(Caching(tokens_that_fit=14))

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield [Forward(prompt), Forward(prompt + [1] * 20)]
        return prompt

    broken, fine = run(Task(letters, [0], Script(decode)), Task(letters, [5], max_new_tokens=2))
    assert isinstance(broken.error, CacheError)
    assert (fine.error, fine.text) == (None, "gh")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), min_size=1, max_size=7),
    st.integers(8, 60),
    st.integers(1, 50),
)
def test_everybody_is_served_or_told(sizes: list[tuple[int, int]], fits: int, max_tokens: int) -> None:
    tight, wide = model(Caching(RANDOM, tokens_that_fit=fits)), model(Caching(RANDOM))
    names = ["greedy", "sampling", "beam:num_beams=2", "best_of_n:n=2"]
    found, expected = (
        run(
            *(Task(each, [place] * size, names[name], max_new_tokens=4) for place, (size, name) in enumerate(sizes)),
            max_tokens=max_tokens,
        )
        for each in (tight, wide)
    )
    for one, other, (size, _) in zip(found, expected, sizes, strict=True):
        if size + 3 > fits:
            assert isinstance(one.error, CacheError)
        else:
            assert one.error is None
            assert (one.tokens, one.logprob) == (other.tokens, other.logprob)
    assert tight.runner.cache_in_use == 0
