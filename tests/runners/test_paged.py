"""The paged runner on the real model: the same bits whatever the history and the company."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest

import ovdecode as od
from ovdecode.engine import Engine, Task
from ovdecode.errors import CacheError, ConfigurationError, ModelError, PrecisionError
from ovdecode.forward import Forward
from ovdecode.generation import Generation
from ovdecode.models import ModelFolder
from ovdecode.runners import lane
from ovdecode.runners.paged import PagedRunner
from ovdecode.runners.paged_graph import PagedGraph
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding
from ovdecode.vocabulary import Vocabulary

Rows = npt.NDArray[np.float32]

TEXT = (
    "Once upon a time, in a small village near the edge of a great forest, there lived a girl who could "
    "speak with birds. Every morning she climbed the old oak and asked them for news: who had come, who had "
    "gone, what the river carried, and whether 1,024 geese could truly cross the sea without resting. "
    "'Nobody', said the owl, 'has counted them.' So she took her bag, her knife, and a loaf of bread, and "
    "set out to count."
)
PAGE_BYTES = 1_474_560  # 30 layers, keys and values, 3 heads, 32 tokens, 64 wide, f32


def load(precision: Any, pages: int | None = None) -> od.Model:
    size = {} if pages is None else {"cache_bytes": pages * PAGE_BYTES}
    return od.load("smollm2", precision=precision, runner="paged", threads=2, progress=False, **size)


@pytest.fixture(scope="module")
def exact_model(smollm2_folder: ModelFolder) -> od.Model:
    return load("exact")


@pytest.fixture(scope="module")
def tight_model(smollm2_folder: ModelFolder) -> od.Model:
    """A second model, in a cache of 19 pages and one that the runner keeps."""
    return load("invariant", 20)


@pytest.fixture(params=["invariant", "exact"])
def any_model(request: pytest.FixtureRequest, model: od.Model, exact_model: od.Model) -> od.Model:
    return {"invariant": model, "exact": exact_model}[request.param]


@pytest.fixture(autouse=True)
def nothing_left(model: od.Model, exact_model: od.Model, tight_model: od.Model) -> Iterator[None]:
    """After every test, no page is in use, without the help of the collector."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()
    in_use = [each.runner.cache_in_use for each in (model, exact_model, tight_model)]
    assert in_use == [0, 0, 0]


def paged(of: od.Model) -> PagedRunner:
    assert isinstance(of.runner, PagedRunner)
    return of.runner


@pytest.fixture(scope="module")
def tokens(model: od.Model) -> list[int]:
    return model.encode(TEXT)[:100]


def plant(of: od.Model, tokens: list[int]) -> Sequence:
    """The sequence in a tree of its own, which shares nothing that is cached."""
    return Vocabulary(of.runner.vocab_size).prompt(tokens)


def rows(of: od.Model, sequence: Sequence, last: int | None = None) -> Rows:
    return of.runner.forward([Forward(sequence, last)])[0].logits


@pytest.fixture
def known(any_model: od.Model, tokens: list[int]) -> Rows:
    """The logits after every token, of one prefill."""
    return rows(any_model, plant(any_model, tokens), len(tokens))


def same(one: Rows, other: Rows) -> None:
    assert one.shape == other.shape
    assert float(np.abs(one - other).max(initial=0)) == 0.0
    assert one.tobytes() == other.tobytes()


# Bits


def test_decoding_has_the_bits_of_prefill(any_model: od.Model, tokens: list[int], known: Rows) -> None:
    sequence = plant(any_model, tokens[:1])
    for count in range(1, len(tokens) + 1):
        same(rows(any_model, sequence), known[count - 1 : count])
        if count < len(tokens):
            sequence = sequence.extend_prompt(tokens[count : count + 1])


@pytest.mark.parametrize("seed", range(6))
def test_any_chunking_has_the_bits_of_one_prefill(
    any_model: od.Model, tokens: list[int], known: Rows, seed: int
) -> None:
    random, sequence = np.random.default_rng(seed), plant(any_model, tokens)
    ends = sorted({*random.integers(1, len(tokens), random.integers(1, 12)).tolist(), len(tokens)})
    for end in ends:
        last = int(random.integers(0, min(end, 5) + 1))
        same(rows(any_model, sequence[:end], last), known[end - last : end])


@pytest.mark.parametrize("last", [1, 2, 3, 31, 32, 33, 64, 100])
def test_verification_has_the_bits_of_prefill(any_model: od.Model, tokens: list[int], known: Rows, last: int) -> None:
    sequence = plant(any_model, tokens)
    same(rows(any_model, sequence[: max(1, len(tokens) - last)]), known[max(0, len(tokens) - last - 1)][None])
    same(rows(any_model, sequence, last), known[-last:])
    same(rows(any_model, sequence, last), known[-last:])  # and again, when all of it is cached


def test_tokens_taken_back_leave_no_trace(any_model: od.Model, tokens: list[int], known: Rows) -> None:
    sequence = plant(any_model, tokens)
    for keep, wrong in ((40, 9), (64, 40), (63, 2), (99, 1), (31, 70)):
        draft = sequence[:keep].extend_prompt([7] * wrong)
        rows(any_model, draft, min(wrong, 5))
        same(rows(any_model, sequence[:keep]), known[keep - 1 : keep])
        draft = sequence[:keep].extend_prompt([8] * wrong)
        rows(any_model, draft)
        del draft
        same(rows(any_model, sequence[: keep + 1], 2), known[keep - 1 : keep + 1])
    same(rows(any_model, sequence), known[-1:])


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31])
def test_the_bits_do_not_depend_on_the_company(any_model: od.Model, tokens: list[int], known: Rows, count: int) -> None:
    random = np.random.default_rng(count)
    others = [plant(any_model, random.integers(3, 40000, random.integers(1, 40)).tolist()) for _ in range(count)]
    sequence = plant(any_model, tokens)
    for end in (1, 50, 51, 52, 97, 98):
        requests = [Forward(one) for one in others] + [Forward(sequence[:end])]
        order = random.permutation(len(requests))
        answers = any_model.runner.forward([requests[place] for place in order])
        same(answers[int(np.flatnonzero(order == count)[0])].logits, known[end - 1 : end])
        others = [one + int(random.integers(3, 40000)) for one in others]


def test_siblings_in_one_call_do_not_disturb_each_other(any_model: od.Model, tokens: list[int], known: Rows) -> None:
    sequence = plant(any_model, tokens)
    rows(any_model, sequence[:70])
    forks = [sequence[:70].extend_prompt([token]) for token in range(40, 60)]
    together = any_model.runner.forward([Forward(one) for one in [*forks, sequence[:71]]])
    same(together[-1].logits, known[70:71])
    for fork, answer in zip(forks[::7], together[::7], strict=False):
        same(rows(any_model, plant(any_model, fork.tokens.tolist())), answer.logits)


def test_no_inference_breaks_the_rules_of_invariance(any_model: od.Model, tokens: list[int], known: Rows) -> None:
    """With AMX, a product of 4 rows added up in another order than one of 5; without AVX-512, one of 81 than 80."""
    fed: list[Any] = []
    start = PagedGraph.start

    def noting(graph: PagedGraph, feed: Any) -> Any:
        fed.append(feed)
        return start(graph, feed)

    def ask(*requests: Forward) -> list[Rows]:
        return [answer.logits for answer in any_model.runner.forward(requests)]

    with patch.object(PagedGraph, "start", noting):
        sequence, other = plant(any_model, tokens), plant(any_model, [4, *tokens[:40]])
        crowd = [sequence[:end] for end in range(20, 100)]
        first, second = ask(Forward(sequence[:90], 70), Forward(other, 41))
        same(first, known[20:90])
        for place, logits in enumerate(ask(*map(Forward, crowd))):
            same(logits, known[19 + place][None])
        same(ask(Forward(other, 3))[0], second[-3:])
        same(ask(Forward(sequence))[0], known[-1:])
    even = paged(any_model)._lanes[False].graph.even_rows
    assert even is not None
    limit = even[-1] - 2  # that leaves room for company
    parts = [min(limit, all_ - begin) for all_ in (131, 116, 3, 1) for begin in range(0, all_, limit)]
    for feed, part in zip(fed, parts, strict=True):
        count = len(feed["input_ids"])
        assert count in even
        assert count >= max(part, 2)
        sizes = np.diff(feed["subsequence_begins"]).tolist()
        assert sizes == [1] * part + [rest for rest in [count - part] if rest]
        assert len(feed["wanted_rows"]) >= even[0]


def test_recomputing_after_eviction_gives_the_same_bits(tight_model: od.Model, tokens: list[int]) -> None:
    sequence = plant(tight_model, tokens)
    known = rows(tight_model, sequence, len(tokens))
    request = Forward(sequence)
    for first in range(12):
        other = plant(tight_model, [first + 3] * 420)
        rows(tight_model, other)
        del other
    assert tight_model.runner.missing(request) == 0  # what is gone left room enough
    held = [plant(tight_model, [first + 3] * 420) for first in range(3)]
    for other in held:
        rows(tight_model, other)
    assert tight_model.runner.missing(request) > 32
    same(rows(tight_model, sequence, 60), known[-60:])
    assert tight_model.runner.missing(request) == 0


def test_recompute_agrees(any_model: od.Model, tokens: list[int], known: Rows) -> None:
    sequence = plant(any_model, tokens)
    rows(any_model, sequence[:77])
    answer = any_model.runner.recompute(np.array(tokens), Forward(sequence, 3))
    same(answer.logits, known[-3:])
    sums = np.log(np.exp(known[-3:].astype(np.float64)).sum(axis=-1))
    assert np.allclose(answer.logsumexp, sums, atol=1e-4)
    assert any_model.runner.tolerance == 0.0


def test_fast_is_near_recomputing(fast_model: od.Model, tokens: list[int]) -> None:
    sequence = plant(fast_model, tokens[:1])
    for count in range(1, 40):
        answer = rows(fast_model, sequence)
        if count % 6 == 0:
            again = fast_model.runner.recompute(sequence.tokens, Forward(sequence)).logits
            assert float(np.abs(answer - again).max()) <= fast_model.runner.tolerance
        sequence = sequence.extend_prompt(tokens[count : count + 1])


def test_exact_is_within_a_thousandth_of_a_bare_stateful_request(
    exact_model: od.Model, tokens: list[int], smollm2_folder: ModelFolder
) -> None:
    import openvino as ov

    from ovdecode.runners.precision import EXACT

    properties = {**EXACT, "INFERENCE_NUM_THREADS": 2}
    request = ov.Core().compile_model(str(smollm2_folder.xml), "CPU", properties).create_infer_request()
    ids = np.array([tokens])
    feed = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(len(tokens))[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    wanted = request.infer(feed)["logits"][0]
    found = rows(exact_model, plant(exact_model, tokens), len(tokens))
    assert float(np.abs(found - wanted).max()) < 1e-3


# Hidden states and inner layers


def test_the_last_layer_reads_out_the_logits(any_model: od.Model, tokens: list[int]) -> None:
    sequence = plant(any_model, tokens[:40])
    (answer,) = any_model.runner.forward([Forward(sequence, 3, hidden=True, layers=(0, 15, 30))])
    assert answer.hidden is not None
    assert answer.layers is not None
    assert answer.hidden.shape == (3, 576)
    assert {layer: found.shape for layer, found in answer.layers.items()} == dict.fromkeys(
        (0, 15, 30), (3, any_model.runner.vocab_size)
    )
    near = {"invariant": 0.3, "exact": 1e-3}[any_model.runner.precision]
    assert float(np.abs(answer.layers[30] - answer.logits).max()) < near
    assert float(np.abs(answer.layers[15] - answer.logits).max()) > 1
    assert not answer.layers[0].flags.writeable
    assert not answer.hidden.flags.writeable


def test_inner_layers_have_the_same_bits_whatever_is_asked_with_them(any_model: od.Model, tokens: list[int]) -> None:
    """A single row was read out by another kernel than several."""
    sequence = plant(any_model, tokens[:40])

    def ask(*requests: Forward) -> Any:
        return any_model.runner.forward(requests)[-1]

    several = ask(Forward(sequence, 5, hidden=True, layers=(0, 15, 30)))
    again = ask(Forward(sequence, hidden=True, layers=(15,)))
    crowd = ask(
        *(Forward(plant(any_model, tokens[start:60]), 2, layers=(3,)) for start in range(4)),
        Forward(sequence, layers=(0, 15)),
    )
    same(again.layers[15], several.layers[15][-1:])
    same(again.hidden, several.hidden[-1:])
    same(crowd.layers[15], several.layers[15][-1:])
    same(crowd.layers[0], several.layers[0][-1:])


def test_hidden_states_change_no_bits_of_any_logits(any_model: od.Model, tokens: list[int], known: Rows) -> None:
    sequence = plant(any_model, tokens)
    requests = [Forward(sequence[:50], hidden=True), Forward(sequence), Forward(sequence, 2, layers=(3,))]
    answers = any_model.runner.forward(requests)
    same(answers[0].logits, known[49:50])
    same(answers[1].logits, known[-1:])
    same(answers[2].logits, known[-2:])
    assert [answer.hidden is not None for answer in answers] == [True, False, False]


def test_a_long_prompt_with_inner_layers_is_fed_in_chunks(model: od.Model, tokens: list[int]) -> None:
    seen: list[Any] = []

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        seen.append((yield Forward(prompt, layers=(15,))))
        return prompt

    for max_tokens in (512, 30):
        (found,) = Engine(max_tokens=max_tokens).run([Task(model, tokens, Scripted(decode))])
        assert found.error is None
    same(seen[0].layers[15], seen[1].layers[15])


# Everybody alone, and among others


def real_prompts(count: int) -> list[str]:
    source = Path(__file__).parents[2].parent / "shared" / "data" / "mt_bench.jsonl"
    if not source.exists():
        pytest.skip(f"the real prompts are not there: {source}")
    texts = [json.loads(line)["turns"][0][:160] for line in source.read_text().splitlines()]
    assert len(texts) >= count
    return texts[:count]


def methods(second: od.Model) -> list[Any]:
    return [
        "greedy",
        "sampling:temperature=0.8,top_k=40,top_p=0.95",
        "beam:num_beams=3,num_return_sequences=2",
        "best_of_n:n=3",
        "speculative:strategy=(sampling:temperature=0.7)",
        od.Speculative(proposer=od.DraftModel(second, num_tokens=3)),
        od.ContrastiveDecoding(second, amateur_temperature=2.0),
    ]


def told(found: Generation) -> Any:
    assert found.error is None, found.error
    each = [(one.tokens, one.token_logprobs, one.score) for one in found.alternatives]
    return each, dict(found.info), found.cost.forwards, found.cost.tokens


@pytest.mark.parametrize(
    ("precision", "count", "shift"), [("invariant", 50, 0), ("invariant", 50, 3), ("exact", 14, 1)]
)
def test_every_method_decodes_the_same_alone_and_among_32_others_in_any_order(
    precision: str, count: int, shift: int, model: od.Model, exact_model: od.Model, tight_model: od.Model
) -> None:
    main = {"invariant": model, "exact": exact_model}[precision]
    every = methods(tight_model)
    tasks = [
        Task(main, prompt, every[(place + shift) % len(every)], max_new_tokens=12, seed=place)
        for place, prompt in enumerate(real_prompts(count))
    ]
    alone = [told(next(od.run([task]))) for task in tasks]
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(count).tolist()
        results = od.run([tasks[place] for place in order], max_live=33, max_tokens=200)
        for found in results:
            assert told(found) == alone[order[found.index]]
            del found
        assert (main.runner.cache_in_use, tight_model.runner.cache_in_use) == (0, 0)


def test_a_tight_cache_changes_no_result(model: od.Model, tight_model: od.Model, tokens: list[int]) -> None:
    prompts = [tokens[start : start + 70] for start in range(12)]
    found = []
    for each in (model, tight_model):
        tasks = [
            Task(each, prompt, strategy, max_new_tokens=8, seed=place)
            for place, prompt in enumerate(prompts)
            for strategy in ("sampling", "beam:num_beams=3")
        ]
        results = sorted(od.run(tasks), key=lambda one: one.index)
        found.append([told(one) for one in results])
    assert found[0] == found[1]


# Pages


def test_samples_hold_one_copy_of_the_prompts_pages(model: od.Model, tokens: list[int]) -> None:
    engine = Engine()
    for sample in range(8):
        engine.submit(Task(model, tokens, "sampling", max_new_tokens=8, sample=sample))
    most = 0
    for _ in range(6):
        engine.step(pieces=False)
        most = max(most, model.runner.cache_in_use)
    engine.close()
    full, rest = divmod(len(tokens), 32)
    assert rest > 0
    assert full + 1 < most <= full + 1 + 8  # the full pages once, and a last page for each sample
    assert model.runner.cache_bytes == 0


@pytest.mark.parametrize(("method", "ends"), [("greedy", 1), ("beam:num_beams=4", 4)])
def test_the_cache_that_a_task_is_said_to_need_is_what_it_held(
    model: od.Model, tokens: list[int], method: str, ends: int
) -> None:
    """Pages are held whole, and beams that differ have last pages of their own; otherwise the two are the same."""
    engine, most = Engine(), 0
    job = engine.submit(Task(model, tokens, method, max_new_tokens=8, ignore_eos=True))
    while job.result is None:
        engine.step(pieces=False)
        most = max(most, model.runner.cache_bytes)
    needed, page = job.result.cost.cache_bytes, 32 * model.runner.token_bytes
    assert page in (PAGE_BYTES, PAGE_BYTES // 2)
    if ends == 1:
        assert needed == (len(tokens) + 7) * model.runner.token_bytes
        assert most == -(-needed // page) * page
    assert needed <= most <= needed + 2 * ends * page


class Scripted(od.Strategy):
    """Decodes as a function says."""

    def __init__(self, function: Callable[..., Decoding]) -> None:
        super().__init__()
        object.__setattr__(self, "function", function)

    def decode(self, prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        return self.function(prompt, stop, rng)  # type: ignore[attr-defined, no-any-return]


def test_no_page_is_in_use_after_failures_and_cancellation(model: od.Model, tokens: list[int]) -> None:
    def fails(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        held = [prompt + token for token in range(5)]
        yield held
        yield [Forward(one, layers=(3,)) for one in held]
        raise RuntimeError("on purpose")

    def asks_too_much(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield [prompt + 1, Forward(prompt + 2, layers=(31,))]
        return prompt

    found = list(
        od.run(
            [
                Task(model, tokens, Scripted(fails)),
                Task(model, tokens, Scripted(asks_too_much)),
                Task(model, tokens, max_new_tokens=3),
            ]
        )
    )
    errors = {each.index: each.error for each in found}
    assert "on purpose" in str(errors[0])
    assert "`layers` must be from 0 to 30" in str(errors[1])
    assert errors[2] is None
    assert model.runner.cache_in_use == 0

    engine = Engine()
    jobs = [engine.submit(Task(model, tokens, each, max_new_tokens=20)) for each in ("beam", "best_of_n")]
    engine.step()
    engine.step()
    assert model.runner.cache_in_use > 0
    jobs[0].cancel()
    engine.step()
    engine.close()
    assert model.runner.cache_in_use == 0

    for generation in od.run([Task(model, tokens, max_new_tokens=count) for count in (1, 20)]):
        assert generation.error is None
        break
    assert model.runner.cache_in_use == 0


def test_an_interrupt_between_start_and_wait_does_no_harm(
    model: od.Model, tight_model: od.Model, tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inference that is under way goes on writing; its memory and its pages must not be taken from it."""
    expected = model.generate(tokens, max_new_tokens=3).tokens

    def interrupted(requests: Any) -> Any:
        raise KeyboardInterrupt

    tasks = [Task(model, tokens, max_new_tokens=3), Task(tight_model, tokens, max_new_tokens=3)]
    with monkeypatch.context() as patch:
        patch.setattr(tight_model.runner, "submit", interrupted)
        interrupts = 0
        try:
            list(od.run(tasks))
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 1
    assert model.runner.cache_in_use == 0
    found = sorted(od.run(tasks), key=lambda each: each.index)
    assert [each.tokens for each in found] == [expected, expected]


def test_the_lane_for_hidden_states_is_made_when_it_is_prepared_for(
    tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, made, lane = load("invariant", 20), list[bool](), PagedRunner._lane

    def counted(self: Any, hidden: bool) -> Any:
        made.append(hidden)
        return lane(self, hidden)

    monkeypatch.setattr(PagedRunner, "_lane", counted)
    plain, rich = Forward(plant(other, tokens)), Forward(plant(other, tokens), hidden=True)
    other.runner.prepare([plain])
    assert made == []
    other.runner.prepare([plain, rich])
    other.runner.forward([rich])
    assert made == [True]


def test_a_lane_that_can_not_be_made_fails_only_those_who_want_it(
    tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load("invariant", 20)

    def broken(self: Any, hidden: bool) -> Any:
        raise ModelError("no residual stream")

    def decode(prompt: Sequence, stop: Any, rng: Any) -> Decoding:
        yield Forward(prompt, hidden=True)
        return prompt

    monkeypatch.setattr(PagedRunner, "_lane", broken)
    tasks = [Task(other, tokens, max_new_tokens=3), Task(other, tokens, Scripted(decode))]
    fine, rich = sorted(od.run(tasks), key=lambda each: each.index)
    assert "no residual stream" in str(rich.error)
    assert fine.error is None
    assert len(fine.tokens) == 3
    assert other.runner.cache_in_use == 0


def test_a_graph_with_hidden_states_that_has_other_logits_is_refused(
    tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load("invariant", 20)
    answer = lane._answer

    def off(request: Forward, *rest: Any) -> Any:
        found = answer(request, *rest)
        return replace(found, logits=np.nextafter(found.logits, np.float32(0))) if request.hidden else found

    monkeypatch.setattr(lane, "_answer", off)
    with pytest.raises(PrecisionError, match="'invariant' must give the same logits with hidden states and without"):
        other.runner.forward([Forward(plant(other, tokens)), Forward(plant(other, tokens), hidden=True)])
    assert other.runner.cache_in_use == 0


# Errors


@pytest.mark.parametrize("layers", [(31,), (-1,), (3, 99)])
def test_layers_out_of_range(model: od.Model, layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="`layers` must be from 0 to 30, got"):
        model.runner.forward([Forward(plant(model, [1, 2]), layers=layers)])


def test_a_cache_of_too_few_pages(smollm2_folder: ModelFolder) -> None:
    with pytest.raises(
        ConfigurationError, match=r"`cache_bytes` must be at least \d+, 10 pages of \d+ bytes, got 1000"
    ):
        od.load("smollm2", runner="paged", cache_bytes=1000, progress=False)


def test_a_sequence_that_is_larger_than_the_cache(tight_model: od.Model) -> None:
    pages = paged(tight_model)._lanes[False].cache.pages
    with pytest.raises(CacheError, match=f"must fit the cache of {pages} pages together"):
        tight_model.runner.forward([Forward(plant(tight_model, [5] * (32 * pages + 1)))])
    found = next(od.run([Task(tight_model, [5] * (32 * pages + 1))]))
    assert isinstance(found.error, CacheError)
    whole = plant(tight_model, [5] * (32 * pages))
    assert rows(tight_model, whole).shape == (1, tight_model.runner.vocab_size)
    assert tight_model.runner.cache_in_use == pages
    same(rows(tight_model, whole[:-1]), tight_model.runner.forward([Forward(whole[:-1])])[0].logits)


def test_a_vocabulary_that_the_model_does_not_have(model: od.Model) -> None:
    foreign = Vocabulary(model.runner.vocab_size + 1).prompt([1])
    with pytest.raises(ConfigurationError, match="`model` must have the tokens of the sequence"):
        model.runner.forward([Forward(foreign)])


def test_nothing_asked_is_nothing_answered(model: od.Model) -> None:
    assert model.runner.forward([]) == []


def test_a_model_may_go_while_an_inference_runs(smollm2_folder: ModelFolder) -> None:
    """The inference went on writing to memory that was gone with the model, and the process died."""
    code = """
import ovdecode as od
for _ in range(3):
    model = od.load("smollm2", threads=2, progress=False)
    model.runner.submit([od.Forward(model.vocabulary.prompt(range(1, 500)))])
    del model
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what becomes of a mapping")
def test_weights_are_not_held_twice(smollm2_folder: ModelFolder) -> None:
    """The file stayed in memory beside what was packed of it."""
    model = load("fast")
    rows(model, plant(model, [*range(100)]))
    prepared = paged(model)._lanes[False].graph.prepared
    assert prepared is not None
    file, resident = prepared.folder / "graph.bin", 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            resident += 1024 * int(line.split()[1])
    assert 0 < resident < file.stat().st_size / 2
