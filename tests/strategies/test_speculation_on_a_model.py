"""Speculation on a real model: the same tokens as without it, and how many inferences that takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovdecode import (
    DraftModel,
    DraftTree,
    EarlyExit,
    Forward,
    Generation,
    Greedy,
    Jacobi,
    Lookahead,
    Model,
    PromptLookup,
    RepetitionPenalty,
    Sampling,
    Speculative,
    Strategy,
    SuffixIndex,
    Task,
    run,
)
from ovdecode.errors import ConfigurationError
from ovdecode.proposer import Proposer
from ovdecode.testing import law_nothing_left

STORY = (
    "The old lighthouse keeper climbed the winding stairs every evening at dusk. He carried a small brass lamp and a "
    "notebook bound in green leather. On clear nights he wrote down the names of the ships that passed, and on stormy "
    "nights he wrote nothing at all."
)
TABLE = "Alice, 31, London\nBob, 45, Paris\nCarol, 27, Berlin\nDavid, 52, Madrid\n"
COPIES: dict[str, Any] = {
    "quote": [{"role": "user", "content": f"Repeat this text exactly, word for word:\n\n{STORY}"}],
    "continue a copy": f"{STORY}\n\n{STORY}\n\n{STORY[:60]}",
    "copy a table": f"{TABLE}\n{TABLE[:30]}",
    "edit": f"Text: {STORY}\nThe same text, with 'tin' instead of 'brass': {STORY.replace('brass', 'tin')[:110]}",
}
TEXTS: list[Any] = [
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    [{"role": "user", "content": "List the days of the week, each with one thing to do on it."}],
    [{"role": "user", "content": "Explain in a few sentences why the sky is blue."}],
]
MT_BENCH = Path(__file__).parents[3] / "shared" / "data" / "mt_bench.jsonl"


def decoded(model: Model, prompts: list[Any], strategy: Strategy, **options: Any) -> list[Generation]:
    """In one batch, in the order of the prompts."""
    found = {each.index: each for each in run([Task(model, prompt, strategy, **options) for prompt in prompts])}
    for generation in found.values():
        assert generation.error is None
    return [found[index] for index in range(len(prompts))]


@pytest.fixture(scope="module")
def plain(model: Model) -> list[Generation]:
    return decoded(model, TEXTS, Greedy(), max_new_tokens=32)


def forwards(generations: list[Generation]) -> int:
    return sum(generation.cost.forwards for generation in generations)


@pytest.mark.parametrize(
    "proposer",
    [PromptLookup(), PromptLookup(num_drafts=3), SuffixIndex(), SuffixIndex(branching=True)],
    ids=str,
)
def test_a_copy_takes_at_most_half_the_inferences(model: Model, proposer: Proposer) -> None:
    prompts = list(COPIES.values())
    alone = decoded(model, prompts, Greedy(), max_new_tokens=48)
    drafted = decoded(model, prompts, Speculative(proposer=proposer), max_new_tokens=48)
    for name, before, after in zip(COPIES, alone, drafted, strict=True):
        assert after.tokens == before.tokens, name
        assert after.cost.forwards == after.info["rounds"] <= before.cost.forwards / 2, name


def test_lookahead_gives_greedy_tokens_in_fewer_inferences(model: Model, plain: list[Generation]) -> None:
    ahead = decoded(model, TEXTS, Lookahead(), max_new_tokens=32)
    assert [each.tokens for each in ahead] == [each.tokens for each in plain]
    for before, after in zip(plain, ahead, strict=True):
        assert after.cost.forwards == after.info["rounds"] < before.cost.forwards


def test_jacobi_gives_greedy_tokens_in_fewer_inferences(model: Model, plain: list[Generation]) -> None:
    guessed = decoded(model, TEXTS, Jacobi(), max_new_tokens=32)
    assert [each.tokens for each in guessed] == [each.tokens for each in plain]
    assert forwards(guessed) < forwards(plain)


@pytest.mark.skipif(not MT_BENCH.exists(), reason=f"the questions of MT-bench are not at {MT_BENCH}")
def test_lookahead_and_jacobi_on_questions_of_mt_bench(model: Model) -> None:
    questions = [json.loads(line)["turns"][0] for line in MT_BENCH.read_text(encoding="utf-8").splitlines()[::30]]
    prompts = [[{"role": "user", "content": question}] for question in questions]
    alone, ahead, guessed = (
        decoded(model, prompts, strategy, max_new_tokens=32) for strategy in (Greedy(), Lookahead(), Jacobi())
    )
    assert [each.tokens for each in ahead] == [each.tokens for each in guessed] == [each.tokens for each in alone]
    assert forwards(ahead) < forwards(guessed) < forwards(alone)


PROPOSERS: list[Any] = [
    lambda other: DraftModel(other, 3),
    lambda other: DraftTree(other, (2, 2, 1)),
    lambda other: DraftTree(other, (2, 2), "distinct"),
    lambda other: PromptLookup(num_drafts=2),
    lambda other: SuffixIndex(branching=True),
]


@pytest.mark.parametrize("make", PROPOSERS, ids=lambda make: str(make("other")))
def test_the_same_tokens_whoever_drafts(model: Model, plain: list[Generation], make: Any) -> None:
    drafted = decoded(model, TEXTS, Speculative(proposer=make(model)), max_new_tokens=32)
    assert [each.tokens for each in drafted] == [each.tokens for each in plain]
    for generation in drafted:
        info = generation.info
        assert info["accepted"] <= info["drafted"]
        assert info["rounds"] + info["accepted"] in (len(generation.tokens), len(generation.tokens) + 1)


def test_with_processors_that_look_back(model: Model) -> None:
    penalty = RepetitionPenalty(1.3)
    alone = decoded(model, TEXTS, Greedy(processors=penalty), max_new_tokens=30)
    for strategy in (Lookahead(Greedy(processors=penalty)), Speculative(Greedy(), SuffixIndex(), processors=penalty)):
        assert [each.tokens for each in decoded(model, TEXTS, strategy, max_new_tokens=30)] == [
            each.tokens for each in alone
        ]


def test_a_draft_by_the_model_itself_is_accepted_throughout(model: Model) -> None:
    for inner in (Greedy(), Sampling(temperature=0.8, top_k=50)):
        drafted = decoded(model, TEXTS, Speculative(inner, DraftModel(model, 3)), max_new_tokens=16, seed=3)
        for generation in drafted:
            assert generation.info["acceptance"] == 1
            assert generation.info["rounds"] == -(-len(generation.tokens) // 4)


def test_a_truncated_model_is_the_read_out_of_its_last_layer(model: Model) -> None:
    sequence = model.vocabulary.prompt(model.encode(STORY))
    (whole,) = model.runner.forward([Forward(sequence, last=3, layers=(20,))])
    assert whole.layers is not None
    runner = model.truncated(20).runner
    assert runner.num_layers == 20
    (cut,) = runner.forward([Forward(sequence, last=3)])
    assert cut.logits.argmax(-1).tolist() == whole.layers[20].argmax(-1).tolist()
    assert cut.logits == pytest.approx(whole.layers[20], abs=1e-3)
    assert model.truncated(30) is model
    for layer in (0, 31):
        with pytest.raises(ConfigurationError, match=f"`layer` must be from 1 to 30 for this model, got {layer}"):
            model.truncated(layer)


def test_the_layers_above_an_exit_are_not_computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were, and a drafted token cost as much as a decoded one."""
    asked: list[tuple[int, int]] = []
    submit = type(model.runner).submit

    def count(self: Any, requests: list[Forward]) -> Any:
        asked.append((self.num_layers, len(requests)))
        return submit(self, requests)

    monkeypatch.setattr(type(model.runner), "submit", count)
    generation = model.generate(TEXTS[0], Speculative(proposer=EarlyExit(20, 3)), max_new_tokens=12)
    assert asked.count((20, 1)) == generation.info["drafted"] > 0
    assert asked.count((30, 1)) == len(asked) - generation.info["drafted"] == generation.info["rounds"]


def test_deeper_layers_are_accepted_more_often(model: Model, plain: list[Generation]) -> None:
    acceptance = []
    for layer in (20, 30):
        drafted = decoded(model, TEXTS, Speculative(proposer=EarlyExit(layer, 3)), max_new_tokens=16)
        assert [each.tokens for each in drafted] == [each.tokens[:16] for each in plain]
        total = {name: sum(each.info[name] for each in drafted) for name in ("accepted", "drafted", "rounds")}
        acceptance.append(total["accepted"] / total["drafted"])
        assert forwards(drafted) == total["rounds"] + total["drafted"]
    assert acceptance == sorted(acceptance)
    assert acceptance[-1] == 1  # the last layer is the model


def test_a_draft_model_in_another_precision(model: Model, fast_model: Model, plain: list[Generation]) -> None:
    drafted = decoded(model, TEXTS, Speculative(proposer=DraftModel(fast_model, 4)), max_new_tokens=32)
    assert [each.tokens for each in drafted] == [each.tokens for each in plain]
    accepted, proposed = (sum(each.info[name] for each in drafted) for name in ("accepted", "drafted"))
    assert 0.8 < accepted / proposed <= 1
    assert sum(each.info["rounds"] for each in drafted) < forwards(plain) / 2


@pytest.mark.parametrize("strategy", [Lookahead(), Speculative(proposer=EarlyExit(20, 2))], ids=str)
def test_nothing_is_left_behind(model: Model, strategy: Strategy) -> None:
    law_nothing_left(strategy, model, TEXTS[:1], max_new_tokens=6, interruptions=2)
    assert model.runner.cache_in_use == model.truncated(20).runner.cache_in_use == 0
