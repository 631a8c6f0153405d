"""What a round asks of a runner: merged, deduplicated, chunked, within its bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_fakes import ABC, VOCAB, Caching, Committing, Counting, Script, counter, model, run
from hypothesis import given, settings
from hypothesis import strategies as st

import ovdecode as od
from ovdecode.engine import Engine, Task
from ovdecode.forward import Forward
from ovdecode.runners.base import Pending
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding


def test_all_requests_of_a_round_share_one_inference() -> None:
    letters = model()
    found = run(*(Task(letters, [first], max_new_tokens=3) for first in (0, 5, 9)))
    assert [each.text for each in found] == ["bcd", "ghi", "klm"]
    assert counter(letters).asked == [
        [[0], [5], [9]],
        [[0, 1], [5, 6], [9, 10]],
        [[0, 1, 2], [5, 6, 7], [9, 10, 11]],
    ]


def test_identical_requests_are_asked_once() -> None:
    letters = model()
    found = run(*(Task(letters, [0], max_new_tokens=2) for _ in range(5)))
    assert [each.tokens for each in found] == [(1, 2)] * 5
    assert counter(letters).asked == [[[0]], [[0, 1]]]


def test_what_is_asked_twice_is_asked_once_even_if_it_exceeds_the_bound() -> None:
    letters = model()
    tasks = [Task(letters, [0, 1, 2], max_new_tokens=1) for _ in range(3)]
    assert [each.tokens for each in run(*tasks, max_tokens=2)] == [(3,)] * 3
    assert len(counter(letters).inferences) == 1


def test_requests_about_one_sequence_are_merged_and_each_gets_its_rows() -> None:
    letters, seen = model(), {}

    def ask(last: int | None) -> Any:
        def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
            seen[last] = yield Forward(prompt, last)
            return prompt

        return Script(decode)

    found = run(*(Task(letters, [0, 1, 2], ask(last)) for last in (None, 3, 0, 2)))
    assert [each.error for each in found] == [None] * 4
    assert [[one.rows for one in inference] for inference in counter(letters).inferences] == [[3]]
    assert np.array_equal(seen[None], ABC[2])
    assert np.array_equal(seen[3], ABC[:3])
    assert np.array_equal(seen[2], ABC[1:3])
    assert seen[0].shape == (0, VOCAB)


def test_last_of_0_brings_a_sequence_into_the_cache_and_nothing_more() -> None:
    """It once ended the whole run with a ValueError from `zip`."""
    letters = model(Caching())

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        rows = yield Forward(prompt, 0)
        assert rows.shape == (0, VOCAB)
        yield prompt
        return prompt

    (found,) = run(Task(letters, [0, 1, 2], Script(decode)))
    assert found.error is None
    assert counter(letters).tokens == [3, 1]


def test_samples_of_one_prompt_prefill_once() -> None:
    letters = model(Caching(np.zeros((VOCAB, VOCAB))))
    prompt = list(range(20))
    found = run(*(Task(letters, prompt, "sampling", max_new_tokens=4, sample=sample) for sample in range(8)))
    assert len({each.tokens for each in found}) == 8
    assert counter(letters).tokens[0] == 20
    assert len(counter(letters).asked[0]) == 1
    assert sum(counter(letters).tokens) <= 20 + 3 * 8


def test_a_long_prompt_is_fed_in_chunks_beside_the_decoding_of_others() -> None:
    letters = model(Caching())
    prompt = [place % 7 for place in range(50)]
    tasks = [Task(letters, [3], max_new_tokens=12), Task(letters, prompt, max_new_tokens=2)]
    short, long = run(*tasks, max_tokens=8)
    runner = counter(letters)
    assert max(runner.tokens) == 8
    assert runner.tokens[:7] == [8] * 7  # 1 of the short one, 7 of the long one, then 1 of it
    assert [len(inference) for inference in runner.inferences[:7]] == [2] * 7
    assert (short.text, long.text) == ("efghijklmnop", "bc")


def test_without_a_cache_a_long_prompt_is_not_cut() -> None:
    letters = model()
    (found,) = run(Task(letters, list(range(20)), max_new_tokens=1), max_tokens=5)
    assert found.tokens == (20,)
    assert counter(letters).tokens == [20]


def test_more_rows_than_the_bound_go_alone() -> None:
    letters = model(Caching())

    def verify(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield Forward(prompt, 12)
        return prompt

    tasks = [Task(letters, list(range(12)), Script(verify)), Task(letters, [5], max_new_tokens=3)]
    found = run(*tasks, max_tokens=4)
    assert [each.error for each in found] == [None, None]
    for inference, tokens in zip(counter(letters).inferences, counter(letters).tokens, strict=True):
        assert tokens <= 4 or len(inference) == 1


def test_rows_that_a_merge_adds_count_too() -> None:
    """A request merged with one for fewer rows of the same sequence was once not counted: 12 tokens of 4."""
    letters = model(Caching())

    def ask(last: int) -> Script:
        def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
            yield Forward(prompt, 0)
            yield Forward(prompt, last)
            return prompt

        return Script(decode)

    found = run(*(Task(letters, list(range(12)), ask(last)) for last in (1, 12, 3)), max_tokens=4)
    assert [each.error for each in found] == [None] * 3
    for inference, tokens in zip(counter(letters).inferences, counter(letters).tokens, strict=True):
        assert tokens <= 4 or max(one.rows for one in inference) == 12
    rows = [max(one.rows for one in inference) for inference in counter(letters).inferences]
    assert rows == [0, 0, 0, 3, 12]


def prompts() -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=90), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(prompts(), st.integers(1, 40), st.integers(1, 6), st.sampled_from([None, 100, 150]))
def test_results_do_not_depend_on_bounds_and_company(
    given: list[list[int]], max_tokens: int, max_live: int, tokens_that_fit: int | None
) -> None:
    rows = np.random.default_rng(0).normal(size=(VOCAB, VOCAB))
    crowd = model(Caching(rows, tokens_that_fit=tokens_that_fit))
    strategies = ["greedy", "sampling", "beam:num_beams=2", "speculative"]
    tasks = [
        Task(crowd, prompt, strategies[place % 4], max_new_tokens=5, sample=place) for place, prompt in enumerate(given)
    ]
    together = run(*tasks, max_tokens=max_tokens, max_live=max_live)
    for place, prompt in enumerate(given):
        alone = model(Caching(rows)).generate(prompt, strategies[place % 4], max_new_tokens=5, sample=place)
        assert together[place].error is None
        assert together[place].tokens == alone.tokens
        assert together[place].logprob == pytest.approx(alone.logprob, abs=1e-5)
        assert (together[place].cost.forwards, together[place].cost.tokens) == (
            alone.cost.forwards,
            alone.cost.tokens,
        )
    for inference, tokens in zip(counter(crowd).inferences, counter(crowd).tokens, strict=True):
        assert tokens <= max_tokens or len(inference) == 1
    assert crowd.runner.cache_in_use == 0


def test_a_shared_beginning_of_32_tokens_is_waited_for_and_found() -> None:
    letters, shared = model(Caching()), [place % 9 for place in range(40)]
    run(*(Task(letters, [*shared, last], max_new_tokens=1) for last in (1, 2, 3)))
    assert counter(letters).tokens == [41, 2]
    assert [len(each) for each in counter(letters).asked] == [1, 2]


def test_a_shorter_shared_beginning_is_not_waited_for() -> None:
    letters, shared = model(Caching()), [place % 9 for place in range(31)]
    run(*(Task(letters, [*shared, last], max_new_tokens=1) for last in (1, 2, 3)))
    assert counter(letters).tokens == [96]


def test_a_shared_beginning_is_waited_for_while_it_is_fed_in_chunks() -> None:
    letters, shared = model(Caching()), [place % 9 for place in range(64)]
    run(*(Task(letters, [*shared, last], max_new_tokens=1) for last in (1, 2)), max_tokens=20)
    assert counter(letters).tokens[:3] == [20, 20, 20]
    assert 66 <= sum(counter(letters).tokens) < 66 + 32  # the last few are not waited for


def test_two_models_are_started_before_either_is_waited_for() -> None:
    events: list[str] = []

    class Noting(Counting):
        def submit(self, requests: Any) -> Pending:
            events.append(f"start {id(self)}")
            wait = super().submit(requests)

            def answers() -> Any:
                events.append(f"wait {id(self)}")
                return wait()

            return answers

    one, other = model(Noting()), model(Noting())
    run(Task(one, [0], max_new_tokens=1), Task(other, [0], max_new_tokens=1))
    first, second = id(one.runner), id(other.runner)
    assert events == [f"start {first}", f"start {second}", f"wait {first}", f"wait {second}"]


def test_two_models_of_one_runner_share_its_inferences() -> None:
    runner = Counting()
    found = run(Task(od.Model(runner), [0], max_new_tokens=2), Task(od.Model(runner), [0], max_new_tokens=2))
    assert [each.tokens for each in found] == [(1, 2), (1, 2)]
    assert len(runner.inferences) == 2


def test_a_strategy_may_ask_two_models_at_once() -> None:
    expert, amateur = model(), model(Counting(np.roll(ABC, 1, axis=1)))
    strategy = od.ContrastiveDecoding(amateur, alpha=1.0)
    (found,) = run(Task(expert, [0], strategy, max_new_tokens=3))
    assert found.tokens == (1, 2, 3)
    assert counter(expert).asked == counter(amateur).asked == [[[0]], [[0, 1]], [[0, 1, 2]]]
    assert found.cost.forwards == 6


def test_a_list_is_answered_over_several_rounds_if_it_exceeds_the_bound() -> None:
    letters, seen = model(Caching()), []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        rows = yield [prompt + token for token in range(10)]
        seen.extend(int(row.argmax()) for row in rows)
        return prompt

    run(Task(letters, [0], Script(decode)), max_tokens=3)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert counter(letters).tokens == [1, 3, 3, 3, 1]


def test_cost_is_as_if_alone() -> None:
    letters = model(Caching())
    tasks = [Task(letters, [0, 1, 2], max_new_tokens=4) for _ in range(3)]
    found = run(*tasks)
    assert [(each.cost.forwards, each.cost.tokens) for each in found] == [(4, 6)] * 3
    assert sum(counter(letters).tokens) == 6


def test_cost_counts_a_request_that_is_made_twice_once() -> None:
    """best_of_n once seemed to feed its prompt's last token n times."""
    letters = model(Caching())
    strategy = od.BestOfN(n=4, strategy=od.Greedy())
    (found,) = run(Task(letters, [0, 1, 2], strategy, max_new_tokens=2))
    assert found.cost.tokens == sum(counter(letters).tokens) == 4
    assert found.cost.forwards == 2


def test_answers_are_valid_as_long_as_they_are_held() -> None:
    held: list[Any] = []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        sequence = prompt
        for _ in range(3):
            held.append((yield sequence))
            sequence += int(held[-1].argmax())
        return sequence

    run(Task(model(), [0], Committing(decode)))
    assert [int(row.argmax()) for row in held] == [1, 2, 3]
    assert not any(row.flags.writeable for row in held)


def test_an_engine_takes_tasks_between_its_rounds() -> None:
    letters, engine = model(), Engine()
    first = engine.submit(Task(letters, [0], max_new_tokens=3))
    engine.step()
    second = engine.submit(Task(letters, [5], max_new_tokens=1))
    engine.step()
    assert (first.done, second.done) == (False, True)
    assert second.result is not None
    assert second.result.text == "g"
    engine.step()
    assert first.done
    engine.close()
    assert counter(letters).asked == [[[0]], [[0, 1], [5]], [[0, 1, 2]]]
