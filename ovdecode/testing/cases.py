"""What the laws are tried on: a small model, prompts, neighbours, and a runner that takes notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from random import getstate, setstate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.engine import Engine, Task
from ovdecode.engine.task import Prompt
from ovdecode.forward import Answer, Forward
from ovdecode.generation import Generation
from ovdecode.model import Model
from ovdecode.plugin import Plugin
from ovdecode.random import Random
from ovdecode.runners.base import ModelRunner, Pending
from ovdecode.runners.table import TableRunner
from ovdecode.sequence import Sequence, _nodes
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Strategy
from ovdecode.vocabulary import Vocabulary

VOCAB_SIZE = 6
EOS = 5
PROMPTS: tuple[Prompt, ...] = ((0,), (1, 2, 1, 2, 1), (4, 3, 0, 0, 3, 0, 0))
MAX_NEW_TOKENS = 6


def table_model(seed: int = 0) -> Model:
    """A model of `VOCAB_SIZE` tokens whose logits depend on every token before, irregularly but fixed.

    Args:
        seed: another seed is another model, as an amateur or a draft model for a strategy that needs two.
    """

    @cache
    def row(tokens: tuple[int, ...]) -> NDArray[np.float64]:
        return np.random.default_rng([seed, len(tokens), *tokens]).normal(0.0, 1.5, VOCAB_SIZE)

    def hidden(tokens: tuple[int, ...]) -> NDArray[np.float64]:
        return np.tanh(row((*tokens, VOCAB_SIZE)))

    def inner(layer: int) -> Callable[[tuple[int, ...]], NDArray[np.float64]]:
        return lambda tokens: row((*tokens, VOCAB_SIZE + 1 + layer))

    layers = {layer: inner(layer) for layer in range(4)}
    return Model(TableRunner(row, hidden=hidden, layers=layers), [EOS])


def companions(model: Model, prompts: Items[Prompt]) -> list[Task]:
    """Tasks to run beside the one under test: other methods on the same prompts, and one that fails."""
    methods: list[Strategy | str] = [
        "greedy",
        "sampling:temperature=1.5",
        "beam:num_beams=3",
        "best_of_n:n=3",
        "speculative",
        "sampling:top_k=2",
        Failing(),
        "greedy:processors=(repetition:penalty=1.3)",
        "speculative:strategy=(sampling:min_p=0.2)",
    ]
    return [
        Task(model, prompts[place % len(prompts)], method, max_new_tokens=3 + place % 4, seed=place)
        for place, method in enumerate(methods)
    ]


@dataclass(frozen=True)
class Failing(Strategy):
    """A neighbour that gives up with an error after one step."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask once, then fail."""
        yield prompt
        raise RuntimeError("this strategy fails on purpose")


class Watched(ModelRunner):
    """Passes requests on to another runner, and keeps the arrays of its answers beside copies of them."""

    def __init__(self, inner: ModelRunner) -> None:
        self.inner = inner
        self.name, self.precision, self.tolerance = inner.name, inner.precision, inner.tolerance
        self.vocab_size, self.context_length = inner.vocab_size, inner.context_length
        self.given: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def recompute(self, tokens: NDArray[np.int64], request: Forward) -> Answer:
        """What the other runner says."""
        return self.inner.recompute(tokens, request)

    def submit(self, requests: Items[Forward]) -> Pending:
        """What the other runner says, noted."""
        wait = self.inner.submit(requests)

        def answers() -> list[Answer]:
            found = wait()
            for answer in found:
                arrays = [answer.logits, answer.logsumexp, *(answer.layers or {}).values()]
                arrays += [] if answer.hidden is None else [answer.hidden]
                self.given += [(array, array.copy()) for array in arrays]
            return found

        return answers

    @property
    def num_layers(self) -> int:
        """What the other runner says."""
        return self.inner.num_layers

    def truncated(self, layer: int) -> Watched:
        """What the other runner gives, noted here."""
        cut = Watched(self.inner.truncated(layer))
        cut.given = self.given
        return cut

    @property
    def changed(self) -> list[NDArray[Any]]:
        """Arrays that do not hold what was given any more."""
        return [array for array, copy in self.given if not np.array_equal(array, copy, equal_nan=True)]


def watch(model: Model) -> tuple[Model, Watched]:
    """The model behind a runner that takes notes."""
    runner = Watched(model.runner)
    return Model(runner, tuple(model.vocabulary.eos_token_ids), model.tokenizer, model.name), runner


def decode(law: str, model: Model, strategy: Strategy, prompt: Prompt, **options: Any) -> Generation:
    """The result of one task in an engine of its own; an error in it breaks the law."""
    options.setdefault("max_new_tokens", MAX_NEW_TOKENS)
    (generation,) = Engine().run([Task(model, prompt, strategy, **options)])
    check_success(law, generation)
    return generation


def check_success(law: str, generation: Generation) -> None:
    """Raise an `AssertionError` if the generation ended with an error."""
    if generation.error is not None:
        seen = f"{type(generation.error).__name__}: {generation.error}"
        task = generation.task
        error = broken(law, task.method, f"{seen}, from the prompt {task.prompt!r:.60}", "a decoded sequence")
        raise error from generation.error


def broken(law: str, plugin: object, seen: str, expected: str) -> AssertionError:
    """The error for a plugin that breaks a law."""
    kind = type(plugin).__name__
    text = f"`{plugin}`" if isinstance(plugin, Plugin) and plugin.name else f"`{kind}`"
    return AssertionError(f"{law}: {text} gave {seen}; expected {expected}")


def facts(generation: Generation) -> dict[str, str]:
    """What must not depend on the company in a generation; equal text means equal bits."""
    names = ("tokens", "text", "score", "logprob", "token_logprobs", "stop_reason")
    return {
        **{name: repr(getattr(generation, name)) for name in names},
        "alternatives": repr(generation.alternatives),
        "cost.forwards": repr(generation.cost.forwards),
        "cost.tokens": repr(generation.cost.tokens),
        "cost.cache_bytes": repr(generation.cost.cache_bytes),
    }


def difference(one: dict[str, str], other: dict[str, str]) -> tuple[str, str] | None:
    """What the second says, and what the first said in its place, at the first fact that differs."""
    for name, value in one.items():
        if other[name] != value:
            return f"{name} {other[name]}", f"{name} {value}"
    return None


@contextmanager
def global_randomness(law: str, plugin: object) -> Iterator[None]:
    """Whoever uses `random` or `np.random` inside breaks the law; their states are put back at the end."""
    states = np.random.get_state(), getstate()  # noqa: NPY002
    np.random.seed(12345)  # noqa: NPY002  the global state is what is watched here
    before = _global_states()
    try:
        yield
        for name, old, new in zip(("np.random", "random"), before, _global_states(), strict=True):
            if old != new:
                raise broken(law, plugin, f"another global state of `{name}`", "randomness from `rng` alone")
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        setstate(states[1])


def _global_states() -> tuple[Any, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return (name, np.asarray(keys).tobytes(), *rest), getstate()


def models_of(plugin: Any) -> list[Model]:
    """The models among a plugin's parameters, and among those of the plugins that it holds."""
    found: list[Model] = []
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Model):
                found.append(part)
            elif isinstance(part, Plugin):
                found += models_of(part)
    return found


def alive(vocabulary: Vocabulary) -> int:
    """How many sequences over a vocabulary are alive, whoever holds them."""
    return sum(node.vocabulary is vocabulary for node in list(_nodes.values()))


def sequences(vocabulary: Vocabulary | None = None) -> list[Sequence]:
    """Sequences to try processors and criteria on: prompts alone, siblings, repetitions."""
    vocabulary = vocabulary or Vocabulary(VOCAB_SIZE, [EOS])
    short, long = vocabulary.prompt([0]), vocabulary.prompt([1, 2, 1, 2, 1])
    generated: tuple[tuple[int, ...], ...] = (
        (),
        (0,),
        (1,),
        (EOS,),
        (2, 2),
        (2, 3),
        (0, 1, 2, 3, 4),
        (3, 4, 3, 4, 3, 4),
        (0, 1, 2, 3, EOS),
    )
    return [prompt + list(tokens) for prompt in (short, long) for tokens in generated]


def rows() -> list[NDArray[np.float32]]:
    """Rows of logits, shape (VOCAB_SIZE,), read-only: plain, tied, peaked, negative, with -inf."""
    inf = float("inf")
    values = [
        [0.5, -1.0, 2.0, 1.0, 0.0, -0.5],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [30.0, -30.0, 0.0, -2.0, 1.0, 2.0],
        [-3.0, -3.5, -4.0, -5.0, -3.0, -3.25],
        [1.0, -inf, 2.0, -inf, 0.0, 0.5],
    ]
    found = [np.array(row, np.float32) for row in values]
    for row in found:
        row.flags.writeable = False
    return found


def candidates() -> list[Candidates]:
    """Candidates to try processors on: dense ones, and narrowed ones of several tokens or a single one."""
    narrowed = [Candidates(row).at(np.array([0, 2, 4, 5])) for row in rows()]
    return [*map(Candidates, rows()), *narrowed, Candidates(rows()[0]).at(np.array([3]))]
