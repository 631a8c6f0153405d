"""Results as they finish, text as it is committed: no half a character, nothing that a stop may cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from engine_fakes import Caching, Committing, Counting, counter, model
from hypothesis import given
from hypothesis import strategies as st

import ovdecode as od
from ovdecode.engine import Engine, Piece, Task
from ovdecode.errors import ConfigurationError
from ovdecode.forward import Forward
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding


class Spelled:
    """A spelling of given byte strings."""

    def __init__(self, tokens: list[bytes], special: frozenset[int] = frozenset()) -> None:
        self.tokens, self.special_ids = tokens, special

    def encode(self, text: str) -> list[int]:
        return [0]

    def token_bytes(self, token: int) -> bytes:
        return self.tokens[token]


def forced(pieces: list[bytes], special: frozenset[int] = frozenset()) -> od.Model:
    """A model that says the pieces one after the other, token 0 being the prompt."""
    spelled = [b"", *pieces]
    size = range(len(spelled))
    chain = od.Model(Counting(lambda tokens: [9.0 * (tokens[-1] + 1 == place) for place in size]))
    chain.vocabulary.spelling = Spelled(spelled, special)
    return chain


def test_results_come_as_they_finish() -> None:
    letters = model()
    tasks = [Task(letters, [0], max_new_tokens=count) for count in (5, 1, 3)]
    results = Engine().run(tasks)
    assert next(results).index == 1
    assert len(counter(letters).inferences) == 1
    assert [each.index for each in results] == [2, 0]


def test_pieces_come_as_they_are_committed() -> None:
    letters = model()
    events = Engine().events([Task(letters, [0], max_new_tokens=3), Task(letters, [9], max_new_tokens=2)])
    told = [(each.index, each.text) for each in events]
    assert told == [(0, "b"), (1, "k"), (0, "c"), (1, "l"), (1, "kl"), (0, "d"), (0, "bcd")]


def test_without_pieces_there_are_only_results() -> None:
    events = Engine().events([Task(model(), [0], max_new_tokens=3)], pieces=False)
    assert [type(each) for each in events] == [od.Generation]


def test_a_method_that_decides_at_the_end_commits_to_nothing() -> None:
    events = list(Engine().events([Task(model(), [0], "beam:num_beams=2", max_new_tokens=3)]))
    assert [type(each) for each in events] == [od.Generation]
    assert list(model().stream([0], "beam:num_beams=2", max_new_tokens=3)) == ["bcd"]


def test_the_pieces_of_a_stream_are_the_text() -> None:
    assert list(model().stream([0], max_new_tokens=4)) == ["b", "c", "d", "e"]
    assert list(model().stream([0], od.Speculative(), max_new_tokens=30)) != []
    for strategy in ("greedy", "speculative", "sampling", "beam", "best_of_n"):
        whole = model().generate([0, 1, 2] * 3, strategy, max_new_tokens=30).text
        assert "".join(model().stream([0, 1, 2] * 3, strategy, max_new_tokens=30)) == whole


def test_a_draft_is_not_shown_before_it_is_accepted() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield Forward(prompt + [1, 2, 25, 25], last=5)
        yield prompt + [1, 2, 3]
        return prompt + [1, 2, 3, 4]

    events = Engine().events([Task(model(), [0], Committing(decode))])
    assert [each.text for each in events] == ["bcd", "e", "bcde"]


def test_several_own_requests_commit_to_what_they_share() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        yield [prompt + [1, 2, 3], prompt + [1, 2, 4, 5], prompt + [1, 2, 6]]
        return prompt + [1, 2, 3]

    events = Engine().events([Task(model(), [0], Committing(decode))])
    assert [each.text for each in events] == ["bc", "d", "bcd"]


def test_another_models_opinion_commits_to_nothing() -> None:
    other = model()

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield Forward(prompt + [1, 2], model=other)
        yield prompt
        return prompt + 1

    events = Engine().events([Task(model(), [0], Committing(decode))])
    assert [each.text for each in events] == ["b", "b"]


def test_a_draft_commits_to_nothing_and_its_probability_is_known() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield [Forward(prompt + [1, 2], last=3, draft=True), Forward(prompt + [3, 3, 3], draft=True)]
        yield Forward(prompt + [1, 2], draft=True)
        yield prompt + 1
        return prompt + [1, 2]

    events = Engine().events([Task(model(), [0], Committing(decode))])
    assert [each.text for each in events] == ["b", "c", "bc"]


def test_what_a_stop_string_may_cut_off_is_withheld() -> None:
    stream = model().stream([0], stop='stop_string:string="def"', max_new_tokens=20)
    assert list(stream) == ["b", "c"]
    stream = model().stream([0], stop='stop_string:string="dex"', max_new_tokens=5)
    assert list(stream) == ["b", "c", "def"]


def test_a_kept_stop_string_is_not_withheld() -> None:
    stream = model().stream([0], stop='stop_string:string="de",keep=true', max_new_tokens=20)
    assert list(stream) == ["b", "c", "d", "e"]


def test_half_a_character_is_never_shown() -> None:
    euro = "€".encode()
    chain = forced([b"a", euro[:1], euro[1:2], euro[2:] + b"b", euro[:2]])
    assert list(chain.stream([0], max_new_tokens=4)) == ["a", "€b"]
    assert list(chain.stream([0], max_new_tokens=5)) == ["a", "€b", "�"]


def test_special_tokens_are_not_shown() -> None:
    chain = forced([b"a", b"<s>", b"b"], frozenset([2]))
    assert list(chain.stream([0], max_new_tokens=3)) == ["a", "b"]


@given(
    st.text("aé€😀b", min_size=1, max_size=12),
    st.lists(st.integers(1, 6), min_size=60, max_size=60),
    st.one_of(st.none(), st.text("aé€b", min_size=1, max_size=3)),
)
def test_pieces_add_up_to_the_text_however_it_is_cut(text: str, cuts: list[int], string: str | None) -> None:
    data, pieces = text.encode(), []
    for cut in cuts:
        if data:
            pieces.append(data[:cut])
            data = data[cut:]
    chain = forced(pieces)
    stop = None if string is None else od.StopString(string)
    events = list(Engine().events([Task(chain, [0], stop=stop, max_new_tokens=len(pieces))]))
    result = events[-1]
    assert isinstance(result, od.Generation)
    told = "".join(each.text for each in events if isinstance(each, Piece))
    assert told == result.text == (text if string is None else text.split(string)[0])
    assert "�" not in told


def test_tasks_are_taken_as_room_comes_up() -> None:
    taken: list[int] = []
    letters = model(Caching())

    def tasks() -> Iterator[Task]:
        for index in range(10):
            taken.append(index)
            yield Task(letters, [index], max_new_tokens=2)

    results = Engine(max_live=3).run(tasks())
    assert taken == []
    assert [next(results).index for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2]
    assert [each.index for each in results] == list(range(3, 10))
    assert max(len(each) for each in counter(letters).inferences) == 3


def test_an_endless_iterable_of_tasks_is_served() -> None:
    letters = model()

    def tasks() -> Iterator[Task]:
        while True:
            yield Task(letters, [0], max_new_tokens=1)

    results = od.run(tasks(), max_live=4)
    assert [next(results).text for _ in range(50)] == ["b"] * 50


def test_no_tasks_give_no_results() -> None:
    assert list(od.run([])) == []


@pytest.mark.parametrize("options", [{"max_live": 0}, {"max_tokens": 0}])
def test_an_engine_needs_room(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        Engine(**options)
