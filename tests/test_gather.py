"""Many decodings inside one strategy: rounds shared, results in order, one failure for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ovdecode as od
from ovdecode import Sequence, Vocabulary, gather
from ovdecode.errors import StrategyError
from ovdecode.forward import Forward
from ovdecode.strategy import Decoding, outcome

PROMPT = Vocabulary(10).prompt([0])


def counting(rounds: int, closed: list[int] | None = None, fails: bool = False) -> Decoding:
    """Asks so many times for its own sequence, and returns what it was told."""
    sequence = PROMPT
    try:
        for _ in range(rounds):
            sequence += yield sequence
        if fails:
            raise ValueError(f"after {rounds}")
    finally:
        if closed is not None:
            closed.append(rounds)
    return sequence


def play(decoding: Any, log: list[list[list[int]]] | None = None) -> Any:
    """Answer each request with the number of tokens of its sequence."""
    answer = None
    try:
        while True:
            asked = decoding.send(answer)
            assert isinstance(asked, list)
            sequences = [one.sequence if isinstance(one, Forward) else one for one in asked]
            if log is not None:
                log.append([list(one) for one in sequences])
            answer = [one.length for one in sequences]
    except StopIteration as finished:
        return finished.value


def test_each_round_asks_for_what_all_want_and_results_are_in_order() -> None:
    log: list[list[list[int]]] = []
    results = play(gather([counting(2), counting(0), counting(3), counting(1)]), log)
    assert [list(each) for each in results] == [[0, 1, 2], [0], [0, 1, 2, 3], [0, 1]]
    assert log == [[[0], [0], [0]], [[0, 1], [0, 1]], [[0, 1, 2]]]


def test_lists_are_answered_by_lists_and_single_ones_by_single_ones() -> None:
    seen: list[Any] = []

    def several() -> Decoding:
        seen.append((yield [PROMPT, PROMPT + [1, 2]]))
        seen.append((yield [PROMPT + 5]))
        return PROMPT

    def single() -> Decoding:
        seen.append((yield Forward(PROMPT + 7)))
        return PROMPT

    play(gather([several(), single(), several()]))
    assert seen == [[1, 3], 2, [1, 3], [2], [2]]


def test_gathers_nest() -> None:
    def inner(first: int) -> Decoding:
        found = yield from gather(counting(first + extra) for extra in range(2))
        assert all(isinstance(each, Sequence) for each in found)
        return max(found, key=len)  # type: ignore[arg-type]

    assert [each.length for each in play(gather([inner(1), inner(3)]))] == [3, 5]


def test_nothing_to_gather() -> None:
    assert play(gather([])) == []
    assert [list(each) for each in play(gather([counting(0)]))] == [[0]]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_that_raises_closes_all(failing: int) -> None:
    closed: list[int] = []
    decodings = [counting(3, closed), counting(failing, closed, fails=True), counting(4, closed)]
    with pytest.raises(ValueError, match=f"after {failing}"):
        play(gather(decodings))
    assert closed[0] == failing
    started = [3, 4] if failing else [3]  # one that was never started has nothing to close
    assert sorted(closed[1:]) == started


def test_closing_it_closes_all() -> None:
    closed: list[int] = []
    gathered = gather([counting(3, closed), counting(4, closed)])
    next(gathered)
    gathered.close()
    assert closed == [3, 4]


def test_an_error_that_is_thrown_in_closes_all() -> None:
    closed: list[int] = []
    gathered = gather([counting(3, closed), counting(4, closed)])
    next(gathered)
    with pytest.raises(KeyError):
        gathered.throw(KeyError("thrown"))
    assert closed == [3, 4]


def test_in_an_engine_the_rounds_are_one_inference_each() -> None:
    calls: list[int] = []

    class Counting(od.TableRunner):
        def submit(self, requests: Any) -> Any:
            calls.append(len(requests))
            return super().submit(requests)

    class Many(od.Strategy):
        def decode(self, prompt: Sequence, stop: Any, rng: od.Random) -> Decoding:
            each = od.Sampling()
            found = yield from gather(each.decode(prompt, stop, rng.split(index)) for index in range(5))
            sequences = [one for one in found if isinstance(one, Sequence)]
            assert len(sequences) == 5
            return max(sequences, key=lambda sequence: sequence.logprob)

    model = od.Model(Counting(np.zeros((8, 8))))
    generation = model.generate([0], Many(), max_new_tokens=4)
    assert len(calls) == generation.cost.forwards == 4
    assert calls[0] == 1  # five equal requests are one
    assert max(calls) > 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "decoding 1 of `gather` must yield at least one request"),
        (None, "decoding 1 of `gather` must yield .* but yielded NoneType"),
        ([3], "decoding 1 of `gather` must yield .* but yielded int: 3"),
    ],
)
def test_what_is_no_request_is_refused_where_it_is_gathered(value: Any, message: str) -> None:
    def wrong() -> Any:
        yield value

    with pytest.raises(StrategyError, match=message):
        play(gather([counting(1), wrong()]))


def test_only_generators_are_gathered() -> None:
    with pytest.raises(StrategyError, match=r"decoding 0 of `gather` must be a generator .* but is int: 3"):
        play(gather([3]))  # type: ignore[list-item]
    with pytest.raises(StrategyError, match="must return a Sequence or an Outcome, but returned NoneType"):
        outcome(None)  # type: ignore[arg-type]
