"""inspect_ai gets what a direct run gives, and what it sends at once shares one batch."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

import ovdecode as od
from ovdecode.errors import ConfigurationError, PromptError

pytest.importorskip("inspect_ai", reason="inspect_ai is the extra `inspect`, which is not installed")

import anyio
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    GenerateConfig,
    get_model,
)
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

from ovdecode.clients import inspect as client

QUESTIONS = ["What is the capital of France?", "What is two plus two?", "Name a colour."]
SPECS = [
    "greedy",
    "sampling:temperature=0.8,top_p=0.95",
    "beam:num_beams=3",
    "best_of_n:n=2,strategy=(sampling:top_k=5)",
]


@pytest.fixture
def loaded(model, monkeypatch) -> list[tuple[str, dict[str, Any]]]:
    """The model of the tests for every source; the list fills with what was asked for."""
    loads: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(client, "_services", WeakValueDictionary())
    monkeypatch.setattr("ovdecode.loading.load", lambda source, **options: loads.append((source, options)) or model)
    return loads


def provider(loaded: object, **options: Any) -> Any:
    return get_model("ovdecode/smollm2", memoize=False, **options)


def ask(model: Any, *questions: str, **settings: Any) -> list[Any]:
    """The outputs for several questions that are asked at once."""
    outputs: dict[str, Any] = {}

    async def one(question: str) -> None:
        outputs[question] = await model.generate(question, config=GenerateConfig(**settings))

    async def everything() -> None:
        async with anyio.create_task_group() as group:
            for question in questions:
                group.start_soon(one, question)

    anyio.run(everything)
    return [outputs[question] for question in questions]


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@pytest.mark.parametrize("spec", SPECS)
def test_any_strategy_replies_what_a_run_gives(model, loaded, spec) -> None:
    outputs = ask(provider(loaded, strategy=spec), *QUESTIONS, max_tokens=8, seed=4)
    tasks = [od.Task(model, chat(question), spec, 8, seed=4) for question in QUESTIONS]
    expected = [generation.text for generation in sorted(od.run(tasks), key=lambda one: one.index)]
    assert [output.completion for output in outputs] == expected
    assert outputs[0].metadata == {"strategy": spec, "seed": 4, "runner": "paged", "precision": "invariant"}


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({}, "greedy"),
        ({"temperature": 0}, "greedy"),
        ({"temperature": 0.8}, "sampling:temperature=0.8"),
        ({"top_p": 0.9, "top_k": 20}, "sampling:top_k=20,top_p=0.9"),
        ({"temperature": 0.7, "presence_penalty": 1.5}, "sampling:temperature=0.7,presence_penalty=1.5"),
        ({"frequency_penalty": 1.5}, "greedy:processors=(frequency:penalty=1.5)"),
        ({"temperature": 0.0, "frequency_penalty": 0.0}, "greedy"),
    ],
)
def test_without_a_strategy_the_settings_say_how(model, loaded, settings, strategy) -> None:
    (output,) = ask(provider(loaded), QUESTIONS[2], max_tokens=8, seed=1, **settings)
    assert output.completion == model.generate(chat(QUESTIONS[2]), strategy, max_new_tokens=8, seed=1).text
    assert output.metadata["strategy"] == strategy


def test_choices_are_samples_and_carry_their_logprobs(model, loaded) -> None:
    settings = {"max_tokens": 6, "seed": 7, "num_choices": 3, "logprobs": True}
    (output,) = ask(provider(loaded, strategy="sampling"), QUESTIONS[2], **settings)
    prompt = model.apply_chat_template(chat(QUESTIONS[2]))
    expected = [model.generate(prompt, "sampling", max_new_tokens=6, seed=7, sample=sample) for sample in range(3)]
    assert [choice.message.text for choice in output.choices] == [one.text for one in expected]
    for choice, one in zip(output.choices, expected, strict=True):
        assert [each.logprob for each in choice.logprobs.content] == list(one.token_logprobs)
        spelled = b"".join(bytes(each.bytes) for each in choice.logprobs.content)
        assert spelled == b"".join(map(model.vocabulary.spelling.token_bytes, one.tokens))
    assert output.usage.input_tokens == len(prompt)
    assert output.usage.output_tokens == sum(len(one.tokens) for one in expected)


def test_it_says_why_it_ended(model, loaded) -> None:
    ending = "greedy:processors=(forced_eos:count=12)"
    served = provider(loaded, strategy=ending)
    whole = model.generate(chat(QUESTIONS[0]), ending, max_new_tokens=64)
    assert whole.stop_reason.name == "eos"
    word = whole.text.split()[2]
    for settings, reason, text in [
        ({"max_tokens": 64}, "stop", whole.text),
        ({"max_tokens": 64, "stop_seqs": [word]}, "stop", whole.text[: whole.text.index(word)]),
        ({"max_tokens": 2}, "max_tokens", model.generate(chat(QUESTIONS[0]), ending, max_new_tokens=2).text),
    ]:
        (output,) = ask(served, QUESTIONS[0], **settings)
        assert (output.stop_reason, output.completion) == (reason, text)


def test_without_a_seed_each_request_draws_its_own_and_tells_it(model, loaded) -> None:
    served = provider(loaded, strategy="sampling")
    (one,), (other,) = (ask(served, QUESTIONS[2], max_tokens=12) for _ in range(2))
    assert one.metadata["seed"] != other.metadata["seed"]
    (again,) = ask(served, QUESTIONS[2], max_tokens=12, seed=one.metadata["seed"])
    assert again.completion == one.completion


def test_what_is_asked_at_once_shares_the_inferences(model, loaded, monkeypatch) -> None:
    one, other = provider(loaded), provider(loaded, strategy="sampling")
    topics = {one: ("the sea", "the moon", "old towns"), other: ("bread", "rivers", "winter")}  # no two ask the same
    worker, everything = one.api._loaded().worker, 6
    assert other.api._loaded().worker is worker
    assert len(loaded) == 1  # two providers of one model
    calls, submit, sent, send = [], type(model.runner).submit, [], worker.submit
    all_sent = threading.Event()

    def watched(task: od.Task) -> Any:
        sent.append(send(task))
        if len(sent) == everything:
            all_sent.set()
        return sent[-1]

    def held(runner: Any, asked: list[Any]) -> Any:
        all_sent.wait()
        calls.append(len(asked))
        return submit(runner, asked)

    monkeypatch.setattr(worker, "submit", watched)
    monkeypatch.setattr(type(model.runner), "submit", held)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for served, asked in topics.items():
                for topic in asked:
                    group.start_soon(lambda *each: each[0].generate(each[1], config=FEW), served, f"Describe {topic}.")

    anyio.run(run)
    assert max(calls) == everything
    assert len(calls) <= 1 + FEW.max_tokens + 1  # the first may hold one alone; a long prompt may take two


FEW = GenerateConfig(max_tokens=8)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_request_that_is_cancelled_ends_its_decoding(loaded, backend) -> None:
    if backend == "trio":
        pytest.importorskip("trio", reason="inspect_ai runs on trio only where that is installed")
    served = provider(loaded)
    worker, sent = served.api._loaded().worker, []
    submit = worker.submit
    endless = GenerateConfig(max_tokens=4000, stop_seqs=["never said"])

    async def leave() -> None:
        submitted = anyio.Event()
        worker.submit = lambda task: (submitted.set(), sent.append(submit(task)))[1] or sent[-1]
        async with anyio.create_task_group() as group:
            group.start_soon(served.api.generate, [ChatMessageUser(content=QUESTIONS[0])], [], "none", endless)
            await submitted.wait()
            group.cancel_scope.cancel()

    anyio.run(leave, backend=backend)
    assert [future.cancelled() for future in sent] == [True]
    (output,) = ask(served, QUESTIONS[1], max_tokens=2)  # the thread goes on, and is not busy with what was left
    assert output.completion


def test_messages_are_the_model_s_own_format_or_plain_text(model, loaded) -> None:
    messages = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content=QUESTIONS[0])]
    as_chat = [{"role": "system", "content": "Be brief."}, *chat(QUESTIONS[0])]
    for options, prompt in [({}, as_chat), ({"chat": False}, f"Be brief.\n\n{QUESTIONS[0]}")]:
        served = provider(loaded, **options)
        output = anyio.run(lambda served=served: served.generate(messages, config=GenerateConfig(max_tokens=8)))
        assert output.completion == model.generate(prompt, max_new_tokens=8).text


def test_what_a_strategy_overrules_is_said_once(loaded, caplog) -> None:
    served = provider(loaded, strategy="greedy")
    with caplog.at_level(logging.WARNING):
        ask(served, *QUESTIONS, max_tokens=2, temperature=0.5)
    said = [each.getMessage() for each in caplog.records if each.name == "ovdecode.clients.inspect"]
    assert said == ["`greedy` decodes, as it was named; what the settings ask for is left out: {'temperature': 0.5}"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"logit_bias": {1: 2.0}}, ConfigurationError, "`logit_bias` must be left out"),
        ({"logprobs": True, "top_logprobs": 3}, ConfigurationError, "`top_logprobs` must be left out"),
        ({"top_p": 1.5}, ConfigurationError, "`top_p` of `sampling`"),
    ],
)
def test_settings_that_are_not_honoured_are_refused_by_name(loaded, settings, error, message) -> None:
    served = provider(loaded)
    config = GenerateConfig(max_tokens=2, **settings)
    with pytest.raises(error, match=message):
        anyio.run(lambda: served.api.generate([ChatMessageUser(content="Hi")], [], "none", config))


def test_tools_and_images_are_refused(loaded) -> None:
    api, config = provider(loaded).api, GenerateConfig(max_tokens=2)
    with pytest.raises(ConfigurationError, match="`tools` must be left out"):
        anyio.run(lambda: api.generate([ChatMessageUser(content="Hi")], [SimpleNamespace()], "auto", config))
    image = ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AAAA")])
    with pytest.raises(PromptError, match="must be text, got image"):
        anyio.run(lambda: api.generate([image], [], "none", config))


def test_a_list_that_the_command_line_made_of_a_spec_is_joined(loaded) -> None:
    spec = "sampling:temperature=0.8,top_p=0.95"
    assert provider(loaded, strategy=spec.split(",")).api.named == od.parse(spec)


def test_a_closed_provider_loads_again(loaded) -> None:
    with provider(loaded) as served:
        ask(served, QUESTIONS[0], max_tokens=1)
    assert served.api._service is None
    (output,) = ask(served, QUESTIONS[0], max_tokens=1)
    assert output.completion


def test_a_failure_in_decoding_reaches_the_one_who_asked(loaded, monkeypatch) -> None:
    broken = od.Model(od.TableRunner(np.full((26, 26), np.nan)))
    monkeypatch.setattr("ovdecode.loading.load", lambda source, **options: broken)
    served = get_model("ovdecode/broken", memoize=False, chat=False)
    with pytest.raises(ArithmeticError, match="finite maximum"):
        anyio.run(
            lambda: served.api.generate([ChatMessageUser(content="hi")], [], "none", GenerateConfig(max_tokens=2))
        )


def test_an_evaluation_of_a_local_task(model, loaded, tmp_path: Path) -> None:
    samples = [
        Sample(input=question, target=target)
        for question, target in zip(QUESTIONS, ["Paris", "4", "blue"], strict=True)
    ]
    task = Task(dataset=samples, solver=generate(), scorer=includes(), config=GenerateConfig(max_tokens=8, seed=3))
    spec = "sampling:temperature=0.5,top_k=10"
    (log,) = eval(
        task,
        model="ovdecode/smollm2",
        model_args={"strategy": spec, "threads": 2, "precision": "invariant"},
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success", log.error
    assert loaded == [("smollm2", {"precision": "invariant", "threads": 2, "device": "CPU"})]
    found = {sample.input: sample.output.completion for sample in log.samples}
    assert found == {
        question: model.generate(chat(question), spec, max_new_tokens=8, seed=3).text for question in QUESTIONS
    }
    right = sum(target in found[sample.input] for sample, target in zip(samples, ["Paris", "4", "blue"], strict=True))
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(right / 3)


def test_the_provider_is_found_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    (entry,) = (each for each in entry_points(group="inspect_ai") if each.name == "ovdecode")
    assert entry.load() is sys.modules["ovdecode.clients.inspect"] is client
