"""One task's failure, cancellation or interruption, and what it leaves of the others: everything."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from engine_fakes import ABC, VOCAB, Caching, Committing, Counting, Script, alive, model, run

import ovdecode as od
from ovdecode.engine import Engine, Task
from ovdecode.errors import (
    ConfigurationError,
    LogitsError,
    OvdecodeError,
    PromptError,
    StrategyError,
    TokenError,
)
from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import Pending
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding, Hypothesis, Outcome

Decode = Callable[..., Decoding]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """What is left behind must be gone at once, not when the collector comes round."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def raises_at_start(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    raise RuntimeError("at start")
    yield prompt


def raises_midway(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    sequence = prompt + 1
    yield sequence
    raise RuntimeError("midway")


def raises_from_itself(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    error = RuntimeError("its own cause")
    raise error from error


def yields_a_number(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    yield 7  # type: ignore[misc]


def yields_a_tuple(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield (prompt, prompt)  # type: ignore[misc]


def yields_none_in_a_list(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield [prompt, None]  # type: ignore[list-item]


def yields_an_empty_list(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield []


def yields_layers_in_a_list(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield Forward(prompt, layers=[0])  # type: ignore[arg-type]


def yields_a_model_that_is_none(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield Forward(prompt, model=3)  # type: ignore[arg-type]


def yields_half_a_row(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield Forward(prompt, last=0.5)  # type: ignore[arg-type]


def yields_a_layer_by_name(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield Forward(prompt, layers=("last",))  # type: ignore[arg-type]


def yields_an_empty_sequence(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt[:0]


def yields_another_vocabulary(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield od.Vocabulary(3).prompt([1])


def returns_a_number(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    return 7  # type: ignore[return-value]


def returns_nothing(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt


def returns_no_hypothesis(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    return Outcome(())


def returns_a_hypothesis_of_nothing(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    return Outcome((Hypothesis(None, 0.0),))  # type: ignore[arg-type]


def is_no_generator(prompt: Sequence, stop: Any, rng: Any) -> Any:
    return prompt


def leaves_the_vocabulary(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    yield prompt + VOCAB


def raises_stop_iteration(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
    yield prompt
    next(iter(()))


BROKEN: list[tuple[Decode, type[Exception], str]] = [
    (raises_at_start, RuntimeError, "at start"),
    (raises_midway, RuntimeError, "midway"),
    (raises_from_itself, RuntimeError, "its own cause"),
    (yields_a_number, StrategyError, "yielded int: 7"),
    (yields_a_tuple, StrategyError, "yielded tuple"),
    (yields_none_in_a_list, StrategyError, "yielded NoneType"),
    (yields_an_empty_list, StrategyError, "empty list"),
    (yields_layers_in_a_list, ConfigurationError, "`layers` must be a tuple"),
    (yields_a_model_that_is_none, StrategyError, "must name a Model"),
    (yields_half_a_row, ConfigurationError, "`last` must be a whole number"),
    (yields_a_layer_by_name, ConfigurationError, "`layers` must be a tuple"),
    (yields_an_empty_sequence, ConfigurationError, "at least one token"),
    (yields_another_vocabulary, StrategyError, "vocabulary of 3 tokens"),
    (returns_a_number, StrategyError, "returned int: 7"),
    (returns_nothing, StrategyError, "returned NoneType"),
    (returns_no_hypothesis, StrategyError, "at least one Hypothesis"),
    (returns_a_hypothesis_of_nothing, StrategyError, "at least one Hypothesis"),
    (is_no_generator, StrategyError, "must be a generator"),
    (leaves_the_vocabulary, TokenError, f"between 0 and {VOCAB - 1}, got {VOCAB}"),
    (raises_stop_iteration, RuntimeError, "StopIteration"),
]


@pytest.mark.parametrize(("decode", "error", "message"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
@pytest.mark.parametrize("kind", [Script, Committing])
def test_a_broken_strategy_fails_alone(
    decode: Decode, error: type[Exception], message: str, kind: type[Script]
) -> None:
    letters = model(Caching())
    tasks = [Task(letters, [0], max_new_tokens=5), Task(letters, [0], kind(decode))]
    first, broken, last = run(*tasks, Task(letters, [4], "sampling"))
    assert (first.error, first.text, last.error, last.text[:2]) == (None, "bcdef", None, "fg")
    assert isinstance(broken.error, error)
    assert message in str(broken.error)
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


@pytest.mark.parametrize(
    "decode",
    # Delegating to what is no generator is another error.
    [each[0] for each in BROKEN if each[1] is StrategyError and each[0] is not is_no_generator],
    ids=lambda decode: decode.__name__,
)
def test_a_broken_contract_names_strategy_file_and_line(decode: Decode) -> None:
    @dataclass(frozen=True)
    class Mine(od.Strategy):
        def decode(self, prompt: Sequence, stop: Any, rng: Any) -> Decoding:
            found = yield from decode(prompt, stop, rng)
            return found

    (broken,) = run(Task(model(), [0], Mine()))
    line = inspect.getsourcelines(Mine.decode)[1]
    assert f"strategy `Mine` ({__file__}, line " in str(broken.error)
    assert any(f"line {line + offset})" in str(broken.error) for offset in (0, 1))


def test_a_strategy_that_fails_while_it_is_closed_fails_alone() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        try:
            yield prompt
            yield 7  # type: ignore[misc]
        finally:
            raise RuntimeError("while closing")

    def endless(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        while True:
            try:
                yield prompt
            except GeneratorExit:
                yield prompt

    letters = model(Caching())
    engine = Engine()
    strategies = (Script(decode), Script(endless), "greedy")
    jobs = [engine.submit(Task(letters, [0], strategy)) for strategy in strategies]
    engine.step()
    engine.step()
    jobs[1].cancel()
    engine.step()
    engine.close()
    results = [job.result for job in jobs]
    assert "yielded int" in str(results[0].error)  # type: ignore[union-attr]
    assert "ignored GeneratorExit" in str(results[1].error)  # type: ignore[union-attr]
    assert results[2].error is None  # type: ignore[union-attr]
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


def test_a_stop_that_raises_about_what_was_returned_fails_its_task_alone() -> None:
    """It once ended the whole run: the reason is asked for outside of the strategy."""

    class Bad(od.StoppingCriterion):
        name = "bad"

        def __call__(self, sequence: Sequence) -> None:
            if sequence.generated_length:
                raise RuntimeError("no reason")

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        return prompt + 1

    letters = model()
    broken, fine = run(Task(letters, [0], Script(decode), stop=Bad()), Task(letters, [0], max_new_tokens=2))
    assert "no reason" in str(broken.error)
    assert (fine.error, fine.text) == (None, "bc")


@pytest.mark.parametrize("kind", [Script, Committing])
def test_a_token_that_can_not_be_spelled_fails_its_task_alone(kind: type[Script]) -> None:
    """The text of a stream is made outside of the strategy; an error there once ended the whole run."""

    class Half:
        special_ids: frozenset[int] = frozenset()

        def encode(self, text: str) -> list[int]:
            return [0]

        def token_bytes(self, token: int) -> bytes:
            return [b"a", b"b", b"c"][token]

    letters = model()
    letters.vocabulary.spelling = Half()

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        yield prompt + [1, 9]
        return prompt + [1, 9]

    tasks = [Task(letters, [0], kind(decode)), Task(letters, [0], max_new_tokens=2)]
    events = list(Engine().events(tasks))
    results = [each for each in events if isinstance(each, od.Generation)]
    broken, fine = sorted(results, key=lambda each: each.index)
    assert isinstance(broken.error, IndexError)
    assert (fine.error, fine.text) == (None, "bc")


class Poisoned(Caching):
    """A runner that cannot stand one token."""

    def __init__(self, kind: str, table: Any = ABC) -> None:
        super().__init__(table)
        self.kind, self.poison = kind, 13

    def _spoil(self, requests: Any, kind: str) -> None:
        if self.kind == kind and any(self.poison in one.sequence.tokens for one in requests):
            raise RuntimeError(f"poisoned {kind}")

    def missing(self, request: Forward) -> int:
        self._spoil([request], "missing")
        return super().missing(request)

    def submit(self, requests: Any) -> Pending:
        self._spoil(requests, "submit")
        wait = super().submit(requests)

        def answers() -> list[Answer]:
            self._spoil(requests, "wait")
            found = wait()
            for place, request in enumerate(requests):
                if self.poison in request.sequence.tokens:
                    found[place] = self._changed(found[place])
            if self.kind == "too few" and any(self.poison in one.sequence.tokens for one in requests):
                return found[:-1]
            return found

        return answers

    def _changed(self, answer: Answer) -> Answer:
        values = {"nan": np.nan, "-inf": -np.inf, "inf": np.inf}
        if self.kind in values:
            logits = np.full_like(answer.logits, values[self.kind])
            with np.errstate(invalid="ignore"):
                sums = np.log(np.exp(logits).sum(axis=-1))
            return Answer(logits, sums)
        if self.kind == "one nan":
            logits = answer.logits.copy()
            logits[:, 3] = np.nan
            return Answer(logits, logits.sum(axis=-1))
        if self.kind == "no rows":
            return Answer(answer.logits[:0], answer.logsumexp[:0])
        return answer


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("submit", RuntimeError, "poisoned submit"),
        ("wait", RuntimeError, "poisoned wait"),
        ("missing", RuntimeError, "poisoned missing"),
        ("too few", Exception, ""),
        ("no rows", Exception, ""),
        ("nan", LogitsError, "must give logits with a finite maximum"),
        ("one nan", LogitsError, "must give logits with a finite maximum"),
        ("-inf", LogitsError, "must give logits with a finite maximum"),
        ("inf", LogitsError, "must give logits with a finite maximum"),
    ],
)
def test_a_runner_that_fails_about_one_sequence_fails_those_who_asked(
    kind: str, error: type[Exception], message: str
) -> None:
    letters = model(Poisoned(kind))
    found = run(
        *(
            Task(letters, [first], strategy, max_new_tokens=6)
            for first in (0, 10, 10, 16)
            for strategy in ("greedy", "beam")
        )
    )
    for each in found:
        if each.task.prompt == [10]:
            assert isinstance(each.error, error), each.error
            assert message in str(each.error)
        else:
            assert each.error is None
            assert each.text == {0: "bcdefg", 16: "rstuvw"}[each.task.prompt[0]]
    assert next(each.text for each in found if each.task.prompt == [10]) == "lmn"
    del found, each
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_logits_of_another_model_are_looked_at_too() -> None:
    """NaN of an amateur once reached the strategy, which decoded nonsense from it."""
    bad = model(Poisoned("nan"))
    expert = model()
    strategies = (od.ContrastiveDecoding(bad), "greedy")
    found = run(*(Task(expert, [10], strategy, max_new_tokens=6) for strategy in strategies))
    assert isinstance(found[0].error, LogitsError)
    assert "Model(" in str(found[0].error)
    assert (found[1].error, found[1].text) == (None, "lmnopq")


def test_several_tasks_may_fail_of_one_error() -> None:
    letters = model(Poisoned("submit"))
    found = run(*(Task(letters, [13], max_new_tokens=2) for _ in range(20)))
    assert {str(each.error) for each in found} == {"poisoned submit"}
    assert len(str(found[-1].error.__cause__)) < 5000  # type: ignore[union-attr]


def test_an_error_that_is_raised_twice_holds_no_sequence() -> None:
    """Only its first traceback was cleared, so that the second task's sequences stayed in the cache."""
    once = ValueError("always the same")

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        raise once

    letters = model(Caching())
    found = run(*(Task(letters, [first], Script(decode)) for first in (0, 1)))
    assert [each.error for each in found] == [once, once]
    assert "in decode" in str(once.__cause__)
    del found
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


def test_a_group_of_errors_holds_no_sequence() -> None:
    class Group(Exception):
        """As an ExceptionGroup, which Python 3.10 does not have."""

        exceptions: tuple[Exception, ...] = ()

    def failure(prompt: Sequence) -> Exception:
        try:
            try:
                raise KeyError("the cause")
            except KeyError as error:
                raise ValueError("the part") from error
        except ValueError as error:
            return error

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        group = Group("the group")
        group.exceptions = (failure(prompt), group)
        raise group

    letters = model(Caching())
    (generation,) = run(Task(letters, [0], Script(decode)))
    assert str(generation.error) == "the group"
    held, error = (generation.error.exceptions, generation.error)  # type: ignore[union-attr]
    del generation
    assert [str(each) for each in held] == ["the part", "the group"]
    assert error is held[1]
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


def test_generate_raises_what_went_wrong_with_its_place() -> None:
    with pytest.raises(RuntimeError, match="midway") as caught:
        model().generate([0], Script(raises_midway))
    assert "raises_midway" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([], PromptError, "at least one token"),
        ("", PromptError, "at least one token"),
        ([1] * 8, PromptError, "context of 8 tokens, but it has 8"),
        ([1] * 80, PromptError, "context of 8 tokens, but it has 80"),
        ([1, VOCAB], TokenError, f"between 0 and {VOCAB - 1}, got {VOCAB}"),
        ([-1], TokenError, "got -1"),
        ([{"role": "user", "content": "hi"}], PromptError, "without a tokenizer"),
        (None, Exception, ""),
        (["a", "b"], Exception, ""),
    ],
)
def test_a_bad_prompt_fails_alone(prompt: Any, error: type[Exception], message: str) -> None:
    letters = model(Counting(context_length=8))
    broken, fine = run(Task(letters, prompt), Task(letters, [0], max_new_tokens=3))
    assert isinstance(broken.error, error)
    assert message in str(broken.error)
    assert (broken.tokens, broken.text) == ((), "")
    assert (fine.error, fine.text) == (None, "bcd")


def test_a_strategy_that_leaves_the_context_fails_alone() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        sequence = prompt
        while True:
            sequence += int((yield sequence).argmax())

    letters = model(Counting(context_length=8))
    broken, fine = run(Task(letters, [0], Script(decode)), Task(letters, [0]))
    assert "context of 8 tokens, but asked about 9" in str(broken.error)
    assert isinstance(broken.error, StrategyError)
    assert (fine.error, fine.text, str(fine.stop_reason)) == (None, "bcdefgh", "max_length(8)")


# Cancelling


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_cancelled_job_keeps_what_it_committed(after: int) -> None:
    letters, engine = model(Caching()), Engine()
    job, other = (engine.submit(Task(letters, [first], max_new_tokens=5)) for first in (0, 9))
    for _ in range(after):
        engine.step()
    job.cancel()
    while not other.done:
        engine.step()
    assert job.result is not None
    assert other.result is not None
    assert (job.result.text, job.result.error, str(job.result.stop_reason)) == ("bcd"[:after], None, "cancelled")
    assert other.result.text == "klmno"
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


def test_leaving_the_loop_closes_what_runs_on() -> None:
    closed: list[int] = []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        try:
            while True:
                yield prompt
        finally:
            closed.append(prompt.token)

    letters = model(Caching())
    tasks = [Task(letters, [1], max_new_tokens=2)]
    tasks += [Task(letters, [first], Script(decode)) for first in (5, 6)]
    for generation in Engine().run(tasks):
        assert generation.text == "cd"
        break
    assert closed == [5, 6]
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


def test_closing_the_iterator_closes_what_runs_on() -> None:
    letters = model(Caching())
    tasks = [Task(letters, [first], max_new_tokens=first) for first in (1, 5, 6)]
    results = od.run(tasks)
    assert next(results).text == "c"
    assert alive(letters) > 0
    results.close()  # type: ignore[attr-defined]
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


def test_an_engine_that_is_closed_tells_of_every_job() -> None:
    letters, engine = model(), Engine(max_live=1)
    jobs = [engine.submit(Task(letters, [first])) for first in (0, 1)]
    engine.step()
    engine.close()
    assert [job.result.text for job in jobs if job.result is not None] == ["b", ""]


# Ctrl-C


@pytest.mark.parametrize("where", ["start", "strategy", "submit", "wait"])
def test_an_interrupt_goes_on_and_everything_is_closed(where: str) -> None:
    closed: list[int] = []

    class Interrupted(Caching):
        def submit(self, requests: Any) -> Pending:
            wait = super().submit(requests)
            if where == "submit" and len(self.inferences) == 4:
                raise KeyboardInterrupt

            def answers() -> list[Answer]:
                if where == "wait" and len(self.inferences) == 4:
                    raise KeyboardInterrupt
                return wait()

            return answers

    def endless(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        sequence = prompt
        try:
            while True:
                sequence += int((yield sequence).argmax())
        finally:
            closed.append(prompt.token)

    def interrupting(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        try:
            if where == "start":
                raise KeyboardInterrupt
            for _ in range(3):
                yield prompt
            if where == "strategy":
                raise KeyboardInterrupt
            while True:
                yield prompt
        finally:
            closed.append(prompt.token)

    letters = model(Interrupted())
    tasks = [
        Task(letters, [1], max_new_tokens=1),
        Task(letters, [5], Script(endless)),
        Task(letters, [6], Script(interrupting)),
        Task(letters, [7], Script(endless)),
    ]
    kept = []
    interrupted = False
    try:  # `pytest.raises` would hold on to the traceback
        for generation in Engine(max_live=2).run(tasks):
            kept.append(generation.text)
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    assert kept == ["c"]
    assert sorted(closed) == [5, 6]
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)
    assert letters.generate([0], max_new_tokens=2).text == "bc"


def test_an_interrupt_of_one_that_is_closed_leaves_none_of_the_others_open() -> None:
    closed: list[int] = []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        try:
            while True:
                yield prompt
        finally:
            closed.append(prompt.token)
            if prompt.token == 6:
                raise KeyboardInterrupt

    letters, engine = model(Caching()), Engine()
    for first in (5, 6, 7):
        engine.submit(Task(letters, [first], Script(decode)))
    engine.step()
    interrupted = False
    try:
        engine.close()
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    assert closed == [5, 6, 7]
    assert engine.live == []


def test_an_error_of_the_tasks_themselves_goes_on_once_those_that_run_are_finished() -> None:
    letters = model(Caching())

    def tasks() -> Iterator[Task]:
        yield Task(letters, [0], max_new_tokens=1)
        yield Task(letters, [0], max_new_tokens=9)
        raise OvdecodeError("no more tasks")

    kept = list[str]()
    with pytest.raises(OvdecodeError, match="no more tasks"):
        kept.extend(generation.text for generation in Engine(max_live=2).run(tasks()))
    assert kept == ["b", "bcdefghij"]
    assert (alive(letters), letters.runner.cache_in_use) == (0, 0)


@pytest.mark.parametrize("thing", ["hello", None])
def test_what_is_no_task_is_refused_and_the_others_are_finished(thing: Any) -> None:
    letters, kept = model(), list[str]()
    with pytest.raises(ConfigurationError, match="`task` must be a Task"):
        kept.extend(generation.text for generation in od.run([Task(letters, [0], max_new_tokens=2), thing]))
    assert kept == ["bc"]


def test_a_sequence_that_does_not_begin_with_the_prompt_is_refused() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        return prompt.vocabulary.prompt([1, 2]) + 0

    (generation,) = run(Task(model(), [0], Script(decode)))
    assert isinstance(generation.error, StrategyError)
    assert "begins with the prompt" in str(generation.error)


def test_a_forced_token_is_scored_by_its_probability() -> None:
    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield prompt
        return prompt + [3, 3]

    (generation,) = run(Task(model(), [0], Script(decode)))
    assert generation.score == generation.logprob == pytest.approx(sum(generation.token_logprobs))
    assert np.isfinite(generation.token_logprobs).all()


def test_jobs_that_a_closed_engine_never_started_say_so_and_cost_nothing() -> None:
    engine = Engine(max_live=1)
    jobs = [engine.submit(Task(model(), [0])) for _ in range(2)]
    engine.step()
    engine.close()
    results = [job.result for job in jobs]
    assert [str(result.stop_reason) for result in results if result] == ["cancelled", "cancelled"]
    assert results[1] is not None
    assert results[1].cost.seconds == 0
