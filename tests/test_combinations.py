"""Plugins of one kind within those of another, generated from the examples of the conformance tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from test_conformance import digits_model, every, example, ours, strategy

from ovdecode import (
    AStarSearch,
    BeamSampling,
    BeamSearch,
    BestFirstBeamSearch,
    Candidates,
    ConstrainedBeamSearch,
    DiverseBeamSearch,
    Engine,
    ExactSearch,
    Forward,
    Greedy,
    Guidance,
    Model,
    Regex,
    Sampling,
    Sequence,
    Smc,
    StochasticBeamSearch,
    Strategy,
    SuppressedTokens,
    TableRunner,
    Task,
    TokenHealing,
    TopK,
)
from ovdecode.errors import DeadEnd, LogitsError
from ovdecode.processor import LogitsProcessor
from ovdecode.testing import table_model
from ovdecode.testing.cases import EOS, PROMPTS, difference, facts
from ovdecode.testing.enumeration import Choices, paths


@dataclass(frozen=True)
class Same(Guidance):
    """The model's logits as they are, less what the processors exclude."""

    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def companions(self, request: Forward) -> list[Forward]:
        return []

    def combine(self, sequence: Sequence, logits: Any, others: Any) -> Any:
        return logits


# ---- A dead end, and then another processor, in every search ---------------------------------------------------

SEARCHES: list[Strategy] = [
    BeamSearch(num_beams=6, num_return_sequences=6),
    BeamSearch(num_beams=6, preset="vllm"),
    BeamSampling(num_beams=6),
    DiverseBeamSearch(num_beams=12),
    ConstrainedBeamSearch(num_beams=6, phrases=[[1]], strict=False),
    StochasticBeamSearch(6),
    ExactSearch(),
    AStarSearch(),
    BestFirstBeamSearch(6, 6),
    Smc(32),
]


def trap(name: str) -> tuple[Model, LogitsProcessor]:
    """A model, and a language that it cannot go on with after token 0, in a spelling that suits the processor."""
    runner = TableRunner({(): [1.9, 2.0, 0.5, 0.3, 0.0, 1.0]})
    if name == "json_schema":
        return Model(runner, [EOS], digits_model().tokenizer), Regex("09|1[1-3]*")
    return Model(runner, [EOS]), Regex("az|b[b-d]*")


class Flat(LogitsProcessor):
    """All that is possible is equally probable, so that nothing is lost to rounding."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        return candidates.with_logits(np.where(candidates.checked > -np.inf, 0.0, -np.inf))


def texts(model: Model, processor: LogitsProcessor) -> set[tuple[int, ...]]:
    """All that sampling can come to the end of."""
    task = Task(model, [3], Sampling(processors=processor | Flat()), 2)
    return {found.tokens for found in paths(task, Choices()) if not isinstance(found.error, DeadEnd)}


def test_what_is_possible_beside_a_dead_end() -> None:
    model, language = trap("top_k")
    assert texts(model, language | TopK(2)) == {(1, 1), (1, EOS)}
    assert texts(model, language | TopK(1)) == {(1, 1)}
    assert texts(model, language | SuppressedTokens([1])) == set()


@every("processor")
def test_a_search_drops_what_is_at_a_dead_end(name: str, place: int) -> None:
    model, language = trap(name)
    chain = language | example("processor", name, place)
    possible = texts(model, chain)
    methods = [replace(search, processors=chain) for search in SEARCHES]
    methods += [Same(strategy=search, processors=chain) for search in SEARCHES]
    for found in Engine().run(Task(model, [3], method, 2) for method in methods):
        if possible:
            assert found.error is None, found.task.method
            assert {each.tokens for each in found.alternatives} <= possible, found.task.method
        else:
            assert isinstance(found.error, LogitsError), found.task.method


class Wrong(LogitsProcessor):
    """A processor with a fault."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        return candidates.with_logits(np.where(candidates.ids == 1, np.nan, candidates.logits))


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_processor_that_fails_is_no_dead_end(search: Strategy) -> None:
    # What is no number was left out, and the search went on without it.
    with pytest.raises(LogitsError, match="they are not numbers"):
        table_model().generate([0], replace(search, processors=Wrong()), max_new_tokens=1)


# ---- A processor of an inner strategy --------------------------------------------------------------------------

AROUND = [
    outer
    for outer in map(strategy, ours("strategy"))
    if hasattr(outer, "strategy") and not isinstance(outer, Guidance | TokenHealing)
]


@every("processor")
def test_any_strategy_around_a_certain_one_decodes_the_same(name: str, place: int) -> None:
    model = digits_model() if name == "json_schema" else table_model()
    inner = Greedy(processors=example("processor", name, place))
    methods = [inner, *(replace(outer, strategy=inner) for outer in [*AROUND, Same()])]
    (expected, *found) = (next(Engine().run([Task(model, [1, 2, 1, 2, 1], method, 4)])) for method in methods)
    for each in found:
        assert (type(each.error), each.tokens) == (type(expected.error), expected.tokens), each.task.method


# ---- A strategy within one that changes nothing ----------------------------------------------------------------


# What stands alone is not healed.
NEUTRAL = {"guidance": (Same(), PROMPTS[1]), "healing": (TokenHealing(), PROMPTS[0])}


@pytest.mark.parametrize("kind", NEUTRAL)
@every("strategy")
def test_a_strategy_inside_one_that_changes_nothing(name: str, place: int, kind: str) -> None:
    (outer, prompt), inner, model = NEUTRAL[kind], strategy(name, place), table_model()
    alone, inside = (
        next(Engine().run([Task(model, prompt, method, 4, seed=1)]))
        for method in (inner, replace(outer, strategy=inner))
    )
    assert inside.error is None
    assert difference(facts(alone), facts(inside)) is None


# ---- A strategy that goes on within a word ---------------------------------------------------------------------

# Tokens are a to z, a1 to z1, and so on: the last "a" may begin another "a1".
PROMPT = [26, 5, 7, 0, 9, 26, 0]


def letters_model(seed: int) -> Model:
    def row(tokens: tuple[int, ...]) -> Any:
        return np.random.default_rng([seed, *tokens]).normal(0.0, 2.0, 60)

    layers = {layer: (lambda tokens, layer=layer: row((layer, *tokens))) for layer in range(4)}
    return Model(TableRunner(row, hidden=lambda tokens: row(tokens)[:3], layers=layers), name=f"letters {seed}")


@pytest.mark.parametrize("stop", [None, "stop_string:string=q"])
@every("strategy")
def test_any_strategy_is_healed(name: str, place: int, stop: str | None) -> None:
    model = letters_model(0)
    healing = TokenHealing(strategy(name, place, letters_model(1)))
    healed = model.generate(PROMPT, healing, max_new_tokens=3, stop=stop)
    spell = model.vocabulary.spelling.token_bytes
    owed = b"".join(map(spell, PROMPT[-healed.taken_back :]))
    assert healed.taken_back >= 1
    assert b"".join(map(spell, healed.tokens)).startswith(owed)
