"""Traces: what was possible at each token, found again."""

from __future__ import annotations

import numpy as np
import pytest

from ovdecode import (
    Candidates,
    Forward,
    Greedy,
    Model,
    Strategy,
    SuppressedTokens,
    TableRunner,
    Task,
    parse,
    run,
    trace,
)
from ovdecode.experiment.report.traces import Alternative, Explored, Position, Trace, explore, trace_texts
from ovdecode.generation import Generation
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding

HALVES = np.log([0.5, 0.25, 0.125, 0.125]).tolist()


def traced(generation: Generation, **options: int) -> Trace:
    (found,) = trace_texts([(generation.task, generation.tokens, generation.taken_back)], **options)
    assert isinstance(found, Trace)
    return found


def explored(task: Task) -> Explored:
    (found,) = explore([task])
    assert isinstance(found, Explored)
    return found


def rounded(position: Position) -> list[tuple[int, float, float, int | None]]:
    return [
        (each.token, round(each.probability, 5), round(each.left, 5), each.removed_by) for each in position.alternatives
    ]


def test_each_token_says_which_stage_removed_it() -> None:
    model = Model(TableRunner({(): HALVES}))
    strategy = "sampling:processors=(top_k:k=3|top_p:p=0.7)"
    found = traced(model.generate([0], strategy, max_new_tokens=1))
    assert found.stages == ("top_k:k=3", "top_p:p=0.7")
    (position,) = found.positions
    assert rounded(position) == [
        (0, 0.5, 0.66667, None),
        (1, 0.25, 0.33333, None),
        (2, 0.125, 0.0, 1),
        (3, 0.125, 0.0, 0),
    ]
    assert [(count, round(mass, 5)) for count, mass in position.removed] == [(1, 0.125), (1, 0.14286)]


def test_a_token_that_a_stage_makes_certain_to_fail_is_removed_by_it() -> None:
    model = Model(TableRunner({(): HALVES}))
    found = traced(model.generate([0], Greedy(processors=SuppressedTokens((0,))), max_new_tokens=1))
    assert [each.removed_by for each in found.positions[0].alternatives] == [0, None, None, None]
    assert found.positions[0].removed[0][0] == 1


def test_the_chosen_token_is_always_among_the_alternatives() -> None:
    model = Model(TableRunner({(): HALVES}))
    generation = model.generate([0], Greedy(processors=SuppressedTokens((0, 1, 2))), max_new_tokens=2)
    found = traced(generation, alternatives=2)
    assert [[each.token for each in position.alternatives] for position in found.positions] == [[0, 1, 3], [0, 1, 3]]


def test_without_processors_nothing_is_removed() -> None:
    model = Model(TableRunner({(): HALVES}))
    found = traced(model.generate([0], "greedy", max_new_tokens=1), alternatives=1)
    assert found == Trace((), (Position((Alternative(0, pytest.approx(0.5), pytest.approx(0.5), None),), ()),))


@pytest.mark.parametrize(
    ("spec", "stages"),
    [
        (
            "sampling:temperature=0.5,top_k=2,processors=(min_p:p=0.1)",
            "min_p:p=0.1|temperature:temperature=0.5|top_k:k=2",
        ),
        ("gumbel:strategy=(sampling:top_k=5),processors=(min_p:p=0.1)", "min_p:p=0.1|top_k:k=5"),
        ("speculative:strategy=(sampling:top_k=5)", "top_k:k=5"),
        ("best_of_n:strategy=(sampling:top_k=5)", "top_k:k=5"),
        ("beam:processors=(no_repeat_ngram:size=2)", "no_repeat_ngram:size=2"),
        ("greedy", ""),
    ],
)
def test_the_chain_of_a_strategy_has_that_of_the_strategy_in_it(spec: str, stages: str) -> None:
    strategy = parse(spec)
    assert isinstance(strategy, Strategy)
    assert "|".join(map(str, strategy.chain.stages)) == stages


def test_a_guidance_applies_its_own_processors_alone_to_the_models_logits() -> None:
    strategy = parse("cfg:strategy=(sampling:top_k=5),processors=(min_p:p=0.1)")
    assert isinstance(strategy, Strategy)
    assert str(strategy.chain) == "min_p:p=0.1"


def test_what_goes_wrong_with_one_text_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(TableRunner({(): HALVES}))
    task = Task(model, [0], "greedy", max_new_tokens=1)
    bad, good = trace_texts([(task, (9,), 0), (task, (0,), 0)])
    assert isinstance(bad, Exception)
    assert "`token`" in str(bad)
    assert isinstance(good, Trace)


def test_beams_that_were_given_up_are_explored() -> None:
    rows = {(0,): [-9, 5, 5.1, -9], (1,): [-9, -9, -9, 9], (): [0, 0, 0, 0]}
    model = Model(TableRunner(rows))
    found = explored(Task(model, [0], "beam:num_beams=2", max_new_tokens=2))
    assert found.tokens == (1, 3)
    assert found.branches == ((1, 3), (2,))


def test_drafts_that_were_rejected_are_explored() -> None:
    model = Model(TableRunner([[0, 9, 0, 0], [0, 0, 9, 0], [9, 0, 0, 0], [0, 0, 0, 9]]))
    # After "0 1 3 0", the prompt's own continuation of 0 is drafted: 1 3 …, of which the 3 is wrong.
    task = Task(model, [0, 1, 3, 0], "speculative:proposer=(prompt_lookup:factor=2)", max_new_tokens=3)
    found = explored(task)
    assert found.tokens == (1, 2, 0)
    assert any(branch[:2] == (1, 3) for branch in found.branches)


def test_greedy_decoding_explores_a_line() -> None:
    model = Model(TableRunner({(): HALVES}))
    assert explored(Task(model, [0], "greedy", max_new_tokens=3)).branches == ((0, 0, 0),)


def test_a_strategy_that_raises_says_so_when_it_is_explored() -> None:
    class Broken(Strategy):
        def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
            yield prompt
            raise ValueError("broken")

    model = Model(TableRunner({(): HALVES}))
    bad, good = explore([Task(model, [0], Broken()), Task(model, [0], "greedy", max_new_tokens=1)])
    assert str(bad) == "broken"
    assert isinstance(good, Explored)


def test_on_the_real_model_traces_are_what_the_model_and_the_chain_say(model: Model) -> None:
    spec = "sampling:temperature=0.7,top_p=0.9,repetition_penalty=1.2"
    specs = [spec, "beam:num_beams=3", "token_healing"]
    tasks = [Task(model, "The three largest rivers of Europe", spec, max_new_tokens=40, seed=3) for spec in specs]
    generations = sorted(run(tasks), key=lambda generation: generation.index)
    traces = trace_texts([(each.task, each.tokens, each.taken_back) for each in generations])
    for generation, found in zip(generations, traces, strict=True):
        assert isinstance(found, Trace)
        assert len(found.positions) == len(generation.tokens)
        for token, logprob, position in zip(generation.tokens, generation.token_logprobs, found.positions, strict=True):
            (chosen,) = [each for each in position.alternatives if each.token == token]
            assert chosen.probability == pytest.approx(np.exp(logprob), rel=1e-4)
            assert chosen.removed_by is None

    # The first one once more, position by position, with one plain request each.
    generation, found = generations[0], traces[0]
    assert isinstance(found, Trace)
    method = generation.task.method
    sequence = generation.task.start()
    for token, position in list(zip(generation.tokens, found.positions, strict=True)):
        candidates = Candidates.after(sequence, _logits(model, sequence))
        stages = trace(method.chain, candidates, sequence)
        best = np.argsort(-candidates.probabilities, kind="stable")[:8].tolist()
        assert {each.token for each in position.alternatives} == {*best, token}
        assert position.removed == tuple((stage.removed_tokens, stage.removed_mass) for stage in stages)
        for each in position.alternatives:
            assert each.probability == pytest.approx(candidates.probabilities[each.token], rel=1e-6)
            present = [each.token in stage.candidates.ids for stage in stages]
            assert each.removed_by == (None if all(present) else present.index(False))
        sequence += token


def test_on_the_real_model_everything_is_decoded_again_to_the_same_tokens(model: Model) -> None:
    specs = ["sampling:top_p=0.9", "beam:num_beams=3", "speculative", "best_of_n:n=2"]
    tasks = [Task(model, "Once upon a time", spec, max_new_tokens=12, seed=5) for spec in specs]
    generations = sorted(run(tasks), key=lambda generation: generation.index)
    for generation, found in zip(generations, explore(tasks), strict=True):
        assert isinstance(found, Explored)
        assert found.tokens == generation.tokens
        assert any(branch[: len(found.tokens)] == found.tokens for branch in found.branches)


def _logits(model: Model, sequence: Sequence) -> np.ndarray:
    kept = []

    class Asking(Strategy):
        def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
            kept.append((yield Forward(sequence)))
            return prompt

    model.generate(sequence.prompt.tokens.tolist(), Asking(), max_new_tokens=1)
    return np.array(kept[0])
