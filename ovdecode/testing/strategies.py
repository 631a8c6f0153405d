"""The laws that every strategy keeps, each a function; `check_strategy` asks for all of them.

    from ovdecode.testing import check_strategy

    check_strategy(MyMethod(width=3))

A strategy that needs a second model is given `ovdecode.testing.table_model(seed=1)`, whose vocabulary is that
of the default `model`. Every law takes another `model` (a real one, say) and other `prompts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import Any

import numpy as np

from ovdecode.engine import Engine, Piece, Task
from ovdecode.engine.task import Prompt
from ovdecode.generation import Candidate, Generation
from ovdecode.model import Model
from ovdecode.sequence import Sequence
from ovdecode.spec import parse
from ovdecode.stopping import StoppingCriterion, StopReason
from ovdecode.strategy import Strategy
from ovdecode.testing.cases import (
    EOS,
    MAX_NEW_TOKENS,
    PROMPTS,
    broken,
    check_success,
    companions,
    decode,
    difference,
    facts,
    global_randomness,
    table_model,
    watch,
)
from ovdecode.testing.configuration import law_configuration
from ovdecode.testing.distributions import law_distribution
from ovdecode.testing.leftovers import law_nothing_left

__all__ = [
    "check_strategy",
    "law_configuration",
    "law_determinism",
    "law_distribution",
    "law_isolation",
    "law_nothing_left",
    "law_purity",
    "law_stopping",
]


def check_strategy(
    strategy: Strategy,
    *,
    model: Model | None = None,
    prompts: Items[Prompt] | None = None,
    expected: Mapping[tuple[int, ...], float] | None = None,
    invalid: Mapping[str, Iterable[Any]] | None = None,
) -> None:
    """Hold a strategy to all laws that apply to one.

    Args:
        strategy: configured with models of the same vocabulary as `model`, if it needs any.
        model: on a `TableRunner`; a small one by default.
        prompts: token ids to start from.
        expected: the exact distribution from the first prompt; see `law_distribution`.
        invalid: parameter to values that it must refuse.

    Raises:
        AssertionError: the message begins with the law, and says what was seen and what was expected.

    Example:
        >>> import ovdecode as od
        >>> check_strategy(od.Greedy())
    """
    model = model or table_model()
    prompts = prompts or PROMPTS
    law_configuration(strategy, invalid)
    law_purity(strategy, model, prompts)
    law_determinism(strategy, model, prompts)
    law_isolation(strategy, model, prompts)
    law_stopping(strategy, model, prompts)
    law_nothing_left(strategy, model, prompts)
    law_distribution(strategy, expected, model, prompts[0])


def law_determinism(strategy: Strategy, model: Model | None = None, prompts: Items[Prompt] | None = None) -> None:
    """The same seed gives the same result, whatever ran before; global random states are left alone.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Determinism"
    model, prompts = model or table_model(), prompts or PROMPTS
    tasks = [Task(model, prompt, strategy, MAX_NEW_TOKENS, seed=seed) for prompt in prompts for seed in range(3)]

    def run(task: Task, method: Strategy) -> dict[str, str]:
        with global_randomness(law, strategy):
            return facts(decode(law, model, method, task.prompt, seed=task.seed))

    first = [run(task, strategy) for task in tasks]
    again = [run(task, strategy) for task in reversed(tasks)][::-1]
    equal = [run(task, dataclasses.replace(strategy)) for task in tasks]
    for task, before, *others in zip(tasks, first, again, equal, strict=True):
        for other in others:
            if found := difference(before, other):
                seen = f"{found[0]} in another run with seed {task.seed} from the prompt {task.prompt!r:.60}"
                raise broken(law, strategy, seen, f"{found[1]} as before")


def law_isolation(
    strategy: Strategy,
    model: Model | None = None,
    prompts: Items[Prompt] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> None:
    """A task's result is the same alone and in one engine with others, in any order and within any bounds.

    Tokens, text, score, log-probabilities and cost are compared bit for bit, of all alternatives.

    Args:
        strategy: what is tested.
        model: a real one must run in a precision that promises this, `invariant` or `exact`.
        prompts: the strategy runs from each of them, and other methods beside it.
        max_new_tokens: how long it runs.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Isolation"
    model, prompts = model or table_model(), prompts or PROMPTS
    tested = [Task(model, prompt, strategy, max_new_tokens, seed=seed) for seed, prompt in enumerate(prompts)]
    alone = [_only(law, Engine().run([task])) for task in tested]
    others = companions(model, prompts)
    orders = {
        "before 9 others": (tested + others, Engine()),
        "after 9 others, 3 at a time": (others + tested[::-1], Engine(max_live=3)),
        "among 9 others, 5 tokens at a time": (_shuffled(tested, others), Engine(max_tokens=5)),
    }
    for where, (tasks, engine) in orders.items():
        together = {id(generation.task): generation for generation in engine.run(tasks)}
        for task, before in zip(tested, alone, strict=True):
            generation = together[id(task)]
            check_success(law, generation)
            if found := difference(before, facts(generation)):
                seen = f"{found[0]} {where} from {task.prompt!r:.60}"
                raise broken(law, strategy, seen, f"{found[1]} as alone")


def law_stopping(strategy: Strategy, model: Model | None = None, prompts: Items[Prompt] | None = None) -> None:
    """Every result ends at its first stop, and says why; what is streamed is the text of the result.

    Tried with end-of-text tokens, bounds, strings, token sequences, functions of the sequence, one of them of its
    log-probability, and a prompt that is finished already.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Stopping"
    model, prompts = model or table_model(), prompts or PROMPTS
    specs = (
        "stop_string:string=c",
        "stop_string:string=[ab,de]",
        "stop_string:string=b,keep=true",
        "loop:repeats=2",
        f"stop_tokens:sequences=[[1,2],[{EOS}]]",
        "max_new_tokens:count=1",
        "confidence:threshold=-1,window=2",
    )
    criteria = [None, Third(), Unlikely(), *(parse(spec, "stopping") for spec in specs)]
    for prompt in prompts:
        finished = parse(f"max_length:length={len(_tokens(model, prompt))}", "stopping")
        for number, criterion in enumerate([*criteria, finished]):
            assert criterion is None or isinstance(criterion, StoppingCriterion)
            task = Task(model, prompt, strategy, MAX_NEW_TOKENS, criterion, ignore_eos=number % 2 == 1)
            _check_stop(law, task)


@dataclasses.dataclass(frozen=True)
class Third(StoppingCriterion):
    """A criterion that no strategy knows: every third generated token whose id is even, or any later one."""

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason to stop there."""
        late = sequence.generated_length >= 3 and sequence.token % 2 == 0
        return StopReason("third") if late else None


@dataclasses.dataclass(frozen=True)
class Unlikely(StoppingCriterion):
    """What only the model's answers tell: all that was generated has a probability below e^-1.5."""

    def __call__(self, sequence: Sequence) -> StopReason | None:
        """A reason to stop there."""
        return StopReason("unlikely") if sequence.logprob < -1.5 else None


def _check_stop(law: str, task: Task) -> None:
    strategy, stop = task.method, task.criterion
    events = list(Engine().events([task]))
    pieces = [event.text for event in events if isinstance(event, Piece)]
    generation = _only(law, (event for event in events if isinstance(event, Generation)), raw=True)
    where = f"from {task.prompt!r:.60} with the stop `{stop}`"
    start = task.start()
    running = stop.begin(start)
    for candidate in generation.alternatives:
        begun = start.reopen(candidate.taken_back)
        sequence = _with_logprobs(begun, candidate)
        for node in [begun, *sequence.path(begun.length)][:-1]:
            if reason := running(node):
                seen = f"{sequence!r} {where}"
                raise broken(law, strategy, seen, f"nothing after {node!r}, which {reason} stops")
        if candidate.stop_reason is None:
            seen = f"{sequence!r} without a reason {where}"
            raise broken(law, strategy, seen, "to go on until `stop` gives one")
    if strategy.commits and "".join(pieces) != generation.text:
        expected = f"the text {generation.text!r} of its result, as it `commits`"
        raise broken(law, strategy, f"the stream {pieces} {where}", expected)
    if not strategy.commits and pieces:
        raise broken(law, strategy, f"the stream {pieces} {where}", "none, as it does not `commits`")


def _with_logprobs(begun: Sequence, candidate: Candidate) -> Sequence:
    """What was generated after `begun`, as a sequence that knows its log-probability again."""
    sequence = begun.apart()
    for token, logprob in zip(candidate.tokens, candidate.token_logprobs, strict=True):
        sequence.answered(np.full(sequence.vocabulary.size, logprob), 0.0)
        sequence, before = sequence + token, sequence
        before.forget_answer()
    return sequence


def law_purity(strategy: Strategy, model: Model | None = None, prompts: Items[Prompt] | None = None) -> None:
    """Logits and everything else that a model answers are left as they were; what a processor answers, too.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Purity"
    watched, runner = watch(model or table_model())
    for prompt in prompts or PROMPTS:
        decode(law, watched, strategy, prompt)
        if runner.changed:
            seen = f"{len(runner.changed)} changed arrays of logits, such as {runner.changed[0]}"
            raise broken(law, strategy, seen, "new arrays for new values")


def _only(law: str, generations: Iterable[Generation], *, raw: bool = False) -> Any:
    (generation,) = generations
    check_success(law, generation)
    return generation if raw else facts(generation)


def _shuffled(tested: list[Task], others: list[Task]) -> list[Task]:
    """The two lists interleaved."""
    step = -(-len(others) // len(tested))
    tasks: list[Task] = []
    for place, task in enumerate(tested):
        tasks += [*others[place * step : (place + 1) * step], task]
    return tasks


def _tokens(model: Model, prompt: Prompt) -> list[int]:
    return list(Task(model, prompt).start())
