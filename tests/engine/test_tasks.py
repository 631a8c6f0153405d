"""What a task takes, checks and keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_fakes import VOCAB, Counting, model, run

import ovdecode as od
from ovdecode.engine import Engine, Task
from ovdecode.errors import ConfigurationError, PromptError, UnknownNameError

FLAT = np.zeros((VOCAB, VOCAB))


def test_spec_strings_are_read() -> None:
    task = Task(model(), [0], "sampling:temperature=0.8,top_p=0.95", stop='stop_string:string="x"|eos')
    assert task.strategy == od.Sampling(temperature=0.8, top_p=0.95)
    assert task.stop == od.StopString("x") | od.Eos()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strategy": "gredy"}, UnknownNameError, "did you mean `greedy`"),
        ({"strategy": "sampling:temprature=1"}, UnknownNameError, "did you mean `temperature`"),
        ({"strategy": "sampling:temperature=-1"}, ConfigurationError, "`temperature`"),
        ({"strategy": od.Greedy}, ConfigurationError, "`strategy` must be a strategy"),
        ({"strategy": od.TopK(3)}, ConfigurationError, "`strategy` must be a strategy"),
        ({"stop": "max_new_token:count=3"}, UnknownNameError, "did you mean `max_new_tokens`"),
        ({"stop": 3}, ConfigurationError, "`stop` must be"),
        ({"stop": "\n\n"}, ConfigurationError, r'od.StopString\("..."\)'),
        ({"stop": "END"}, UnknownNameError, r'od.StopString\("..."\)'),
        ({"stop": ["\n"]}, ConfigurationError, r'od.StopString\("..."\)'),
        ({"stop": print}, ConfigurationError, r'od.StopString\("..."\)'),
        ({"seed": 1.5}, ConfigurationError, "`seed` must be a whole number, got 1.5"),
        ({"seed": None}, ConfigurationError, "`seed` must be a whole number, got None"),
        ({"sample": "1"}, ConfigurationError, "`sample` must be a whole number, got '1'"),
        ({"max_new_tokens": 0}, ConfigurationError, "at least 1, got 0"),
        ({"max_new_tokens": None}, ConfigurationError, "sure to come"),
        ({"max_new_tokens": None, "ignore_eos": True}, ConfigurationError, "sure to come"),
        ({"max_new_tokens": None, "stop": od.StopString("x")}, ConfigurationError, "sure to come"),
        ({"max_new_tokens": None, "stop": ~od.MaxNewTokens(3)}, ConfigurationError, "sure to come"),
        ({"max_new_tokens": None, "stop": od.MaxNewTokens(3) & od.Eos()}, ConfigurationError, "sure to come"),
    ],
)
def test_a_wrong_option_is_told_when_the_task_is_made(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Task(model(), [0], **options)


def test_a_stop_that_is_sure_to_come_is_bound_enough() -> None:
    (found,) = run(Task(model(), [0], max_new_tokens=None, stop="max_length:length=4"))
    assert (found.text, str(found.stop_reason)) == ("bcd", "max_length(4)")


def test_the_context_alone_is_no_bound() -> None:
    with pytest.raises(ConfigurationError, match="sure to come"):
        Task(model(Counting(context_length=9)), [0], max_new_tokens=None)


def test_end_tokens_end_unless_they_are_ignored() -> None:
    letters = model(eos_token_ids=[3])
    ended, ignored = run(*(Task(letters, [0], max_new_tokens=5, ignore_eos=each) for each in (False, True)))
    assert (ended.tokens, str(ended.stop_reason)) == ((1, 2, 3), "eos(3)")
    assert (ignored.tokens, str(ignored.stop_reason)) == ((1, 2, 3, 4, 5), "max_new_tokens(5)")


def test_a_prompt_may_be_text_ids_or_an_array() -> None:
    letters = model()
    tasks = [Task(letters, prompt, max_new_tokens=2) for prompt in ("ab", [0, 1], (0, 1), np.array([0, 1]))]
    assert [each.text for each in run(*tasks)] == ["cd"] * 4


def test_seed_and_sample_and_prompt_are_the_key() -> None:
    flat = model(Counting(FLAT))

    def tokens(prompt: list[int], **key: Any) -> tuple[int, ...]:
        return flat.generate(prompt, "sampling", max_new_tokens=8, **key).tokens

    found = [tokens([0]), tokens([1]), tokens([0], seed=1), tokens([0], sample=1), tokens([0, 0])]
    assert len(set(found)) == 5
    assert tokens([0], seed=1, sample=0) == found[2]
    together = run(*(Task(flat, [0], "sampling", max_new_tokens=8, seed=seed) for seed in (5, 1, 0)))
    assert [each.tokens for each in together][1:] == [found[2], found[0]]


def test_a_numpy_seed_is_the_number_that_it_is() -> None:
    """The key's text is hashed, and `np.int64(1)` is another text than `1`: seeds of an arange differed."""
    flat = model(Counting(FLAT))
    seeds: list[Any] = [1, np.int64(1)]
    tasks = [Task(flat, [0], "sampling", max_new_tokens=8, seed=each, sample=each) for each in seeds]
    one, other = run(*tasks)
    assert one.tokens == other.tokens


def test_indices_count_the_tasks_of_an_engine() -> None:
    letters, engine = model(), Engine()
    first = list(engine.run(Task(letters, [0], max_new_tokens=1) for _ in range(2)))
    second = list(engine.run([Task(letters, [0], max_new_tokens=1)]))
    assert [each.index for each in first + second] == [0, 1, 2]


def test_a_result_tells_what_ran() -> None:
    (found,) = run(Task(model(), [0], max_new_tokens=2))
    assert (found.runner, found.precision) == ("table", "exact")
    assert found.cost.forwards == 2
    assert 0 <= found.cost.time_to_first_token <= found.cost.seconds
    assert found.logprob == pytest.approx(sum(found.token_logprobs))


def test_no_task_is_charged_for_what_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One method that asked for hidden states once gave all others in the batch 12 seconds to the first token."""
    now = [0.0]
    monkeypatch.setattr("ovdecode.engine.clock.perf_counter", lambda: now[0])

    class Timed(Counting):
        def prepare(self, requests: Any) -> None:
            now[0] += 100

        def submit(self, requests: Any) -> Any:
            now[0] += 1
            return super().submit(requests)

        def truncated(self, layer: int) -> od.TableRunner:
            now[0] += 100
            return od.TableRunner(FLAT)

    class Early(od.Strategy):
        def decode(self, prompt: od.Sequence, stop: Any, rng: Any) -> Any:
            yield od.Forward(prompt, exit_layer=1)
            yield prompt
            return prompt + 1

    letters = model(Timed(), eos_token_ids=[])
    engine = Engine()
    found = list(engine.run([Task(letters, [0], max_new_tokens=3), Task(letters, [1], Early())]))
    assert [each.error for each in found] == [None, None]
    costs = {each.index: (each.cost.time_to_first_token, each.cost.seconds) for each in found}
    assert costs == {0: (1, 3), 1: (2, 2)}


@pytest.mark.parametrize("prompt", [{"role": "user", "content": "hi"}, (token for token in [1]), 3])
def test_a_prompt_of_another_kind_is_refused_with_its_value(prompt):
    (generation,) = od.run([od.Task(od.Model(od.TableRunner([[0, 1], [1, 0]])), prompt)])
    assert isinstance(generation.error, PromptError)
    assert "must be text or a list of token ids or of messages" in str(generation.error)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (b"abc", r'got bytes; decode it: str\(prompt, "utf-8"\)'),
        (bytearray(b"abc"), "got bytearray; decode it"),
        (["a", "b"], r"write od.run\(\[od.Task\(model, each\) for each in prompts\]\)"),
        ([0, 1.0], "token ids, which are whole numbers, got 1.0"),
        ([[0, 1]], r"whole numbers, got \[0, 1\]"),
        (np.array([0.5]), "whole numbers"),
        (np.array([[0, 1]]), r"one row of token ids, got an array of shape \(1, 2\)"),
        (np.array(0), "one row of token ids"),
    ],
)
def test_a_prompt_that_is_no_token_ids_is_refused(prompt: Any, message: str) -> None:
    """The bytes of a text were decoded as token ids."""
    with pytest.raises(PromptError, match=message):
        model().generate(prompt)


def test_a_task_without_a_model_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"`model` must be a model from `ovdecode\.load`, got 'Hello'"):
        Task("Hello", model(), "greedy")  # type: ignore[arg-type]


def test_one_task_is_no_iterable_of_tasks() -> None:
    with pytest.raises(ConfigurationError, match=r"`tasks` must be an iterable of tasks.*write od.run\(\[task\]\)"):
        od.run(Task(model(), [0]))  # type: ignore[arg-type]
