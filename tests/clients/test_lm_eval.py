"""lm-evaluation-harness gets what a direct run gives, and log-likelihoods that NumPy confirms."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import ovdecode as od
from ovdecode.cli import app
from ovdecode.errors import ConfigurationError, PromptError
from ovdecode.forward import Forward
from ovdecode.numerics import log_softmax

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is the extra `lm-eval`, which is not installed")

from lm_eval.api.instance import Instance

from ovdecode.clients.lm_eval import OvdecodeLM
from ovdecode.clients.lm_eval_settings import task_options

PROMPTS = ["The capital of France is", "Two plus two is", "Once upon a time"]
SPECS = [
    "greedy",
    "sampling:temperature=0.8,top_p=0.95",
    "beam:num_beams=3,processors=(no_repeat_ngram:size=2)",
    "best_of_n:n=2,strategy=(sampling:top_k=5)",
    "speculative:strategy=greedy,proposer=(prompt_lookup:num_tokens=3)",
]


def requests(*arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type="generate_until", doc={}, arguments=each, idx=0) for each in arguments]


def rows_after(model: od.Model, tokens: list[int], count: int) -> np.ndarray:
    """The last log-probabilities that the model gives along some tokens, in double precision; (count, vocab)."""
    answer = model.runner.forward([Forward(model.vocabulary.prompt(tokens), last=count)])[0]
    return np.stack([log_softmax(row) for row in answer.logits.astype(np.float64)])


def expected(model: od.Model, context: list[int], continuation: list[int]) -> tuple[Any, bool]:
    rows = rows_after(model, [*context, *continuation][:-1], len(continuation))
    total = sum(row[token] for row, token in zip(rows, continuation, strict=True))
    # The model's graph sums in single precision.
    return pytest.approx(total, abs=2e-5 * len(continuation)), rows.argmax(axis=1).tolist() == continuation


@pytest.mark.parametrize("spec", SPECS)
def test_any_strategy_generates_what_a_run_gives(model, spec) -> None:
    found = OvdecodeLM(model, spec, seed=5).generate_until(
        requests(*((prompt, {"until": ["\n"], "max_gen_toks": 8}) for prompt in PROMPTS)), disable_tqdm=True
    )
    stop = od.StopString("\n")
    tasks = [od.Task(model, prompt, spec, 8, stop, seed=5) for prompt in PROMPTS]
    assert found == [generation.text for generation in sorted(od.run(tasks), key=lambda one: one.index)]


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({}, "greedy"),
        ({"do_sample": False, "temperature": 0.0}, "greedy"),
        ({"temperature": 0}, "greedy"),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.9}, "sampling:temperature=0.7,top_p=0.9,preset=hf"),
        ({"temperature": 0.7}, "sampling:temperature=0.7,preset=hf"),
        ({"num_beams": 2}, "beam:num_beams=2"),
        ({"repetition_penalty": 1.3}, "greedy:processors=(repetition:penalty=1.3)"),
    ],
)
def test_without_a_strategy_the_task_says_how(model, settings, strategy) -> None:
    lm = OvdecodeLM(model, max_new_tokens=6, seed=2)
    found = lm.generate_until(requests((PROMPTS[2], settings)), disable_tqdm=True)
    assert found == [model.generate(PROMPTS[2], strategy, max_new_tokens=6, seed=2).text]


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens"])
def test_the_task_bounds_the_tokens(model, name) -> None:
    (text,) = OvdecodeLM(model, "greedy").generate_until(requests((PROMPTS[2], {name: 3})), disable_tqdm=True)
    assert text == model.generate(PROMPTS[2], max_new_tokens=3).text


def test_a_stop_string_is_cut_off_and_a_special_token_is_one_too(model) -> None:
    whole = model.generate(PROMPTS[0], max_new_tokens=12).text
    word = whole.split()[1]
    lm = OvdecodeLM(model)
    settings = {"until": [word, "", "<|im_start|>"], "max_gen_toks": 12}
    assert lm.generate_until(requests((PROMPTS[0], settings)), disable_tqdm=True) == [whole[: whole.index(word)]]
    options, left_out = task_options(settings, None, 256, model.vocabulary.spelling)
    assert left_out == {}
    start = model.vocabulary.spelling.encode("<|im_start|>")
    assert options["stop"] == od.StopString([word]) | od.StopTokens([start])


def test_a_repeated_request_gets_another_sample(model) -> None:
    settings = {"max_gen_toks": 8}
    lm = OvdecodeLM(model, "sampling")
    found = lm.generate_until(requests(*[(PROMPTS[2], settings)] * 3), disable_tqdm=True)
    assert found == [model.generate(PROMPTS[2], "sampling", max_new_tokens=8, sample=n).text for n in range(3)]
    assert len(set(found)) == 3


def test_what_a_strategy_overrules_is_said_once(model, caplog) -> None:
    lm = OvdecodeLM(model, "sampling:top_k=3")
    asked = requests(*[(prompt, {"do_sample": False, "until": ["."], "max_gen_toks": 2}) for prompt in PROMPTS])
    with caplog.at_level(logging.WARNING):
        lm.generate_until(asked, disable_tqdm=True)
    said = [each.getMessage() for each in caplog.records if each.name == "ovdecode.clients.lm_eval"]
    assert said == [
        "`sampling:top_k=3` decodes, as it was named; what the task asks for is left out: {'do_sample': False}"
    ]


def test_settings_that_cannot_be_honoured_are_refused_by_name(model) -> None:
    lm = OvdecodeLM(model)
    for settings, message in [
        ({"temprature": 0.5}, "did you mean `temperature`"),
        ({"do_sample": True, "temperature": 0.0}, "`temperature`"),
        ({"max_gen_toks": 10**6}, "`max_gen_toks` must leave room"),
    ]:
        with pytest.raises((ConfigurationError, LookupError), match=message):
            lm.generate_until(requests((PROMPTS[0], settings)), disable_tqdm=True)


def test_a_context_that_is_too_long_loses_its_beginning(model, caplog) -> None:
    tokens = model.encode(" ".join(PROMPTS))
    lm = OvdecodeLM(model, max_length=10)
    with caplog.at_level(logging.WARNING):
        found = lm.generate_until(requests((" ".join(PROMPTS), {"max_gen_toks": 4})), disable_tqdm=True)
    assert found == [model.generate(tokens[-6:], max_new_tokens=4).text]
    assert "lose their beginning" in caplog.text
    ((logprob, _),) = lm.loglikelihood(requests((" ".join(PROMPTS), " there")), disable_tqdm=True)
    assert logprob == expected(model, tokens[-10:], model.encode(" there"))[0]


def test_all_requests_share_the_inferences(model, monkeypatch) -> None:
    calls, submit = [], type(model.runner).submit

    def counted(runner, asked):
        calls.append(len(asked))
        return submit(runner, asked)

    monkeypatch.setattr(type(model.runner), "submit", counted)
    settings = {"max_gen_toks": 8, "until": []}
    OvdecodeLM(model).generate_until(requests(*((prompt, settings) for prompt in PROMPTS)), disable_tqdm=True)
    assert max(calls) == len(PROMPTS)
    assert len(calls) <= 8 + 1


@pytest.mark.parametrize(
    ("context", "continuation", "scored"),
    [
        (PROMPTS[0], " Paris", " Paris"),
        (PROMPTS[0], " Rome", " Rome"),
        (PROMPTS[0] + " ", "Paris", " Paris"),  # a space at the end of a context counts as the continuation's
        (PROMPTS[0] + "  \n", "Paris", "  \nParis"),
        (PROMPTS[1], " four, and three is five", " four, and three is five"),
    ],
)
def test_log_likelihood_is_that_of_numpy(model, context, continuation, scored) -> None:
    whole = model.encode(context.rstrip() + scored)
    begin = len(model.encode(context.rstrip()))
    found = OvdecodeLM(model).loglikelihood(requests((context, continuation)), disable_tqdm=True)
    assert found == [expected(model, whole[:begin], whole[begin:])]


def test_greedy_text_is_greedy_and_other_text_is_not(model) -> None:
    text = model.generate(PROMPTS[0], max_new_tokens=5).text
    lm = OvdecodeLM(model, "sampling")  # which has no part in it
    flags = [flag for _, flag in lm.loglikelihood(requests((PROMPTS[0], text), (PROMPTS[0], " zebra")), True)]
    assert flags == [True, False]


def test_without_a_context_a_text_comes_after_bos(model) -> None:
    (bos,) = model.vocabulary.spelling.encode("<|im_start|>")
    found = OvdecodeLM(model).loglikelihood(requests(("", PROMPTS[0]), (" ", "Two")), disable_tqdm=True)
    assert found == [expected(model, [bos], model.encode(PROMPTS[0])), expected(model, [bos], model.encode(" Two"))]
    other = OvdecodeLM(model, prefix_token_id=0).loglikelihood(requests(("", PROMPTS[0])), disable_tqdm=True)
    assert other == [expected(model, [0], model.encode(PROMPTS[0]))]


def test_a_continuation_beyond_the_context_is_refused(model) -> None:
    with pytest.raises(PromptError, match="fit the context of 3 tokens"):
        OvdecodeLM(model, max_length=3).loglikelihood(requests(("Two", " plus two is four, I think")), True)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 24, 25])
def test_rolling_log_likelihood_goes_window_by_window(model, length) -> None:
    """By hand: the first window starts at BOS; each later one predicts as many tokens as the context has, or what is
    left, and sees what comes before them as far as the context reaches."""
    (bos,) = model.vocabulary.spelling.encode("<|im_start|>")
    text = model.vocabulary.spelling.decode(
        model.encode("Once upon a time there was a village by the sea. " * 4)[:length]
    )
    tokens = model.encode(text)
    assert len(tokens) == length
    total = 0.0
    for start in range(0, length, 8):
        end = min(start + 8, length)
        seen = [bos, *tokens][max(end - 8, 0) : end]
        rows = rows_after(model, seen, end - start)
        total += sum(row[token] for row, token in zip(rows, tokens[start:end], strict=True))
    found = OvdecodeLM(model, max_length=8).loglikelihood_rolling(requests((text,), (text,)), disable_tqdm=True)
    assert found == [pytest.approx(total, abs=2e-5 * length)] * 2


def test_a_conversation_is_text_that_encodes_to_the_model_s_own_format(model) -> None:
    lm = OvdecodeLM(model)
    chat = [{"role": "user", "content": "What is two plus two?"}]
    text = lm.apply_chat_template(chat)
    assert lm.tok_encode(text) == model.apply_chat_template(chat)
    begun = lm.apply_chat_template([*chat, {"role": "assistant", "content": "It is"}], add_generation_prompt=False)
    assert begun == f"{text}It is"


class Marked:
    """A tokenizer of one letter that puts a BOS token before every text, and reads its literal."""

    special_ids = frozenset({0})

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        tokens = [0] * text.startswith("<s>") + [1] * len(text.removeprefix("<s>"))
        return [0, *tokens] if add_special_tokens else tokens

    def token_bytes(self, token: int) -> bytes:
        return [b"<s>", b"b"][token]


def test_bos_is_put_once_before_a_text() -> None:
    lm = OvdecodeLM(od.Model(od.TableRunner(np.eye(2)), [1], Marked()))  # type: ignore[arg-type]
    assert lm.tok_encode("bb") == lm.tok_encode("<s>bb") == [0, 1, 1]
    assert lm.tok_encode("bb", add_special_tokens=False) == [1, 1]
    assert lm.prefix_token_id == 0


def test_a_model_without_bos_or_eos_asks_for_a_prefix() -> None:
    lm = OvdecodeLM(od.Model(od.TableRunner(np.eye(2))))
    with pytest.raises(ConfigurationError, match="`prefix_token_id` must be given"):
        lm.loglikelihood(requests(("", "ab")), disable_tqdm=True)


GENERATION = """
task: tiny_generation
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/data.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/data.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["Paris", "four", "zebra"]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
ROLLING = """
task: tiny_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/data.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} {{answer}}"
metric_list: [{metric: byte_perplexity}]
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch) -> Path:
    """A folder of three small tasks, and a harness that reaches no network."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    answers = zip(PROMPTS, ["Paris", "four", "zebra"], strict=True)
    lines = [json.dumps({"question": prompt, "answer": answer}) for prompt, answer in answers]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name, text in [("generation", GENERATION), ("choice", CHOICE), ("rolling", ROLLING)]:
        (tmp_path / f"tiny_{name}.yaml").write_text(text.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    return tmp_path


def test_the_command_runs_the_harness_on_local_tasks(model, tasks, monkeypatch) -> None:
    loads = []
    monkeypatch.setattr("ovdecode.loading.load", lambda source, **options: loads.append((source, options)) or model)
    spec = "sampling:temperature=0.8,top_k=20"
    ours = ["--strategy", spec, "--precision", "invariant", "--threads", "2"]
    theirs = ["--tasks", "tiny_generation,tiny_choice,tiny_rolling", "--include_path", str(tasks), "--limit", "2"]
    written = ["--output_path", str(tasks / "out"), "--log_samples", "--model_args", "seed=3"]
    result = CliRunner().invoke(app, ["lm-eval", *ours, *theirs, *written])
    assert result.exit_code == 0, result.output
    assert loads == [("smollm2", {"precision": "invariant", "threads": 2, "device": "CPU"})]
    found = {
        name: [json.loads(line) for line in next(tasks.glob(f"out/**/samples_tiny_{name}_*.jsonl")).open()]
        for name in ("generation", "choice", "rolling")
    }
    stop = od.StopString("\n")
    texts = [model.generate(prompt, spec, max_new_tokens=6, stop=stop, seed=3).text for prompt in PROMPTS[:2]]
    assert [sample["resps"] for sample in found["generation"]] == [[[text]] for text in texts]
    for sample, prompt in zip(found["choice"], PROMPTS, strict=False):
        for answer, choice in zip(sample["resps"], ["Paris", "four", "zebra"], strict=True):
            logprob, greedy = expected(model, model.encode(prompt), model.encode(f" {choice}"))
            assert (float(answer[0][0]), str(answer[0][1])) == (logprob, str(greedy))
    assert len(found["rolling"]) == 2
    (results,) = (json.loads(path.read_text()) for path in tasks.glob("out/**/results_*.json"))
    assert results["results"]["tiny_choice"]["acc,none"] == 1.0
    assert results["config"]["model_args"]["strategy"] == spec
    assert results["config"]["ovdecode_strategy"] == spec


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["--tasks", "a"], ["run", "--model", "ovdecode", "--device", "CPU", "--tasks", "a"]),
        (["run", "--tasks", "a"], ["run", "--model", "ovdecode", "--device", "CPU", "--tasks", "a"]),
        ([], ["run", "--model", "ovdecode", "--device", "CPU"]),
        (
            ["--strategy", "beam", "--limit", "2"],
            ["run", "--model", "ovdecode", "--device", "CPU", "--model_args", '{"strategy": "beam"}', "--limit", "2"],
        ),
        (["ls", "tasks"], ["ls", "tasks"]),
        (["validate", "--tasks", "a"], ["validate", "--tasks", "a"]),
    ],
)
def test_what_the_harness_s_own_command_is_given(monkeypatch, given, passed_on) -> None:
    seen = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(sys.argv))
    before = sys.argv
    result = CliRunner().invoke(app, ["lm-eval", *given])
    assert result.exit_code == 0, result.output
    assert seen == [["lm-eval", *passed_on]]
    assert sys.argv is before


def test_a_wrong_strategy_is_told_in_one_line_before_the_harness_begins() -> None:
    result = CliRunner().invoke(app, ["lm-eval", "--tasks", "any", "--strategy", "gredy"])
    assert result.exit_code == 2
    assert "did you mean" in result.output
