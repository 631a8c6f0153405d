"""Ours and its peers behind one call, for peers.py; and as a script, one of them in a process of its own.

    python benchmarks/engines.py optimum path/to/model path/to/cache --threads 2

A process says when it is ready, and then answers each line on its standard input, a `Job`'s fields as JSON, with a
line. This file imports an engine only when that one is asked for: an environment need hold nothing but its own.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()  # before anything else is imported: a process also reports how long its start took

# ruff: noqa: E402
import argparse
import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

Method = dict[str, Any]
"""A decoding method by the field's usual names: `temperature`, `top_k`, `top_p`, `min_p`, `typical_p`, `num_beams`,
`prompt_lookup` (a flag), `mirostat` (tau), `penalty_alpha` (contrastive search); empty for greedy decoding."""


class Unsupported(Exception):
    """This engine has no such method, or is not installed."""


@dataclass(frozen=True)
class Job:
    """Prompts to decode in one call.

    Attributes:
        prompts: token ids, all of one length.
        methods: one for each prompt.
        new: how many tokens of each; the tokens that end a text do not end it.
    """

    prompts: list[list[int]]
    methods: list[Method]
    new: int


@dataclass(frozen=True)
class Setup:
    """What an engine is made with.

    Attributes:
        folder: the OpenVINO model's folder; for llama.cpp the GGUF file.
        cache: where a peer keeps what it compiles, so that its second start is as quick as it can make it.
        threads: of the CPU.
    """

    folder: str
    cache: str
    threads: int


Engine = Callable[[Job], list[list[int]]]
"""Decodes a job: the new tokens of every prompt."""


def ours(setup: Setup, precision: str = "fast") -> Engine:
    """This project, by its own call for many tasks."""
    import ovdecode as od

    model = od.load(setup.folder, threads=setup.threads, precision=precision)  # type: ignore[arg-type]

    def decode(job: Job) -> list[list[int]]:
        tasks = [
            od.Task(model, prompt, _spec(method), max_new_tokens=job.new, ignore_eos=True, seed=number)
            for number, (prompt, method) in enumerate(zip(job.prompts, job.methods, strict=True))
        ]
        found: list[list[int]] = [[] for _ in tasks]
        for generation in od.run(tasks, max_tokens=2_048):
            if generation.error is not None:
                raise generation.error
            found[generation.index] = list(generation.tokens)
        return found

    return decode


def _spec(method: Method) -> str:
    values = dict(method)
    if values.pop("prompt_lookup", False):
        return "speculative"
    if "mirostat" in values:
        return f"sampling:processors=(mirostat:tau={values['mirostat']})"
    if "penalty_alpha" in values:
        return "contrastive_search:" + ",".join(f"{name}={value}" for name, value in values.items())
    if "typical_p" in values:
        values["typical"] = values.pop("typical_p")
    name = "beam" if "num_beams" in values else "sampling" if values else "greedy"
    parameters = ",".join(f"{key}={value}" for key, value in values.items())
    return f"{name}:{parameters}" if parameters else name


def genai(setup: Setup, backend: str = "batching") -> Engine:
    """openvino.genai: its `LLMPipeline` on either backend, or its pipeline for continuous batching.

    Args:
        backend: `sdpa` (stateful), `paged`, `lookup` (paged, made for prompt lookup), or `batching`.
    """
    try:
        import openvino as ov
        import openvino_genai as og
    except ImportError as error:
        raise Unsupported("openvino-genai is not installed") from error
    import numpy as np

    folder, properties = setup.folder, {"INFERENCE_NUM_THREADS": setup.threads, "CACHE_DIR": setup.cache}
    schedule = og.SchedulerConfig()
    schedule.cache_size = 2  # GB at the most
    schedule.enable_prefix_caching = False
    schedule.max_num_batched_tokens = 2_048
    if backend == "batching":
        pipeline = og.ContinuousBatchingPipeline(folder, schedule, "CPU", properties)
    elif backend == "sdpa":
        pipeline = og.LLMPipeline(folder, "CPU", ATTENTION_BACKEND="SDPA", **properties)
    else:
        lookup = {"prompt_lookup": True} if backend == "lookup" else {}
        pipeline = og.LLMPipeline(folder, "CPU", scheduler_config=schedule, **lookup, **properties)

    def config(method: Method, new: int) -> Any:
        known = {"temperature", "top_k", "top_p", "min_p", "num_beams"} | ({"prompt_lookup"} & {*method})
        if unknown := {*method} - known:
            raise Unsupported(f"genai has no {', '.join(sorted(unknown))}")
        if method.get("prompt_lookup", False) is not (backend == "lookup"):
            raise Unsupported("genai has prompt lookup in a pipeline of its own, and nothing else there")
        made = og.GenerationConfig(max_new_tokens=new, min_new_tokens=new, ignore_eos=True)
        made.do_sample = bool(method) and not {"num_beams", "prompt_lookup"} & {*method}
        if backend == "lookup":
            made.num_assistant_tokens, made.max_ngram_size = 5, 3
        for name in {*method} - {"prompt_lookup"}:
            setattr(made, name, method[name])
        return made

    def decode(job: Job) -> list[list[int]]:
        configs = [config(method, job.new) for method in job.methods]
        if backend == "batching":
            tensors = [ov.Tensor(np.array([prompt], np.int64)) for prompt in job.prompts]
            return [list(each.m_generation_ids[0]) for each in pipeline.generate(tensors, configs)]
        if any(method != job.methods[0] for method in job.methods):
            raise Unsupported("LLMPipeline takes one method a call")
        ids = np.array(job.prompts, np.int64)
        inputs = og.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        return [list(tokens) for tokens in pipeline.generate(inputs, configs[0]).tokens]

    return decode


def optimum(setup: Setup) -> Engine:
    """optimum-intel: transformers' `generate` on the OpenVINO model."""
    try:
        import torch
        from optimum.intel import OVModelForCausalLM
    except ImportError as error:
        raise Unsupported("optimum-intel is not installed") from error
    torch.set_num_threads(setup.threads)
    settings = {"INFERENCE_NUM_THREADS": str(setup.threads), "CACHE_DIR": setup.cache}
    model = OVModelForCausalLM.from_pretrained(setup.folder, ov_config=settings)
    model.generation_config.eos_token_id = None  # nothing ends a text early
    model.generation_config.pad_token_id = 0

    def decode(job: Job) -> list[list[int]]:
        method = job.methods[0]
        if any(other != method for other in job.methods):
            raise Unsupported("generate takes one method a call")
        if unknown := {*method} - {"temperature", "top_k", "top_p", "min_p", "typical_p", "num_beams", "prompt_lookup"}:
            raise Unsupported(f"optimum-intel has no {', '.join(sorted(unknown))}")
        options = dict(method)
        if options.pop("prompt_lookup", False):
            raise Unsupported("optimum-intel's prompt lookup is not measured")
        options["do_sample"] = bool(options) and "num_beams" not in options
        if options["do_sample"]:
            options.setdefault("top_k", 0)  # transformers would take 50
        ids = torch.tensor(job.prompts)
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=job.new, **options)
        return [row[len(prompt) :] for row, prompt in zip(made.tolist(), job.prompts, strict=True)]

    return decode


def llama_cpp(setup: Setup) -> Engine:
    """llama.cpp through llama-cpp-python, one prompt a call."""
    try:
        from llama_cpp import Llama
    except ImportError as error:
        raise Unsupported("llama-cpp-python is not installed") from error
    model = Llama(setup.folder, n_ctx=4_096, n_threads=setup.threads, n_threads_batch=setup.threads, verbose=False)

    def decode(job: Job) -> list[list[int]]:
        if len(job.prompts) > 1:
            raise Unsupported("llama-cpp-python decodes one prompt a call")
        (method,) = job.methods
        if unknown := {*method} - {"temperature", "top_k", "top_p", "min_p", "typical_p"}:
            raise Unsupported(f"llama.cpp has no {', '.join(sorted(unknown))}")
        model.reset()  # nothing is left of the prompt before
        options = {"temp": method.get("temperature", 1.0 if method else 0.0)}
        options |= {"top_k": method.get("top_k", 0), "top_p": method.get("top_p", 1.0)}
        options |= {"min_p": method.get("min_p", 0.0), "typical_p": method.get("typical_p", 1.0)}
        tokens = model.generate(job.prompts[0], reset=True, **options)
        return [[next(tokens) for _ in range(job.new)]]

    return decode


ENGINES: dict[str, Callable[..., Engine]] = {
    "ours": ours,
    "genai": genai,
    "genai sdpa": partial(genai, backend="sdpa"),
    "optimum": optimum,
    "llama.cpp": llama_cpp,
}


def peak_bytes() -> int:
    """The most memory that this process has had at once."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` would also count what the process was before it became this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def answer(engine: Engine, job: Job) -> dict[str, Any]:
    """What a job took: `seconds`, `tokens` and `peak_bytes`; or `unsupported` and why."""
    begin = time.perf_counter()
    try:
        tokens = engine(job)
    except Unsupported as error:
        return {"unsupported": str(error)}
    return {"seconds": time.perf_counter() - begin, "tokens": tokens, "peak_bytes": peak_bytes()}


def serve() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("folder")
    parser.add_argument("cache")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print does not get between the answers

    def say(**values: Any) -> None:
        print(json.dumps(values), file=replies, flush=True)

    try:
        engine = ENGINES[options.engine](Setup(options.folder, options.cache, options.threads))
    except Unsupported as error:
        say(unsupported=str(error))
        return
    say(seconds=time.perf_counter() - BEGAN)
    for line in sys.stdin:
        say(**answer(engine, Job(**json.loads(line))), since_start=time.perf_counter() - BEGAN)


class Process:
    """An engine in a process of its own; it is ended when the block is left."""

    def __init__(self, python: str, engine: str, setup: Setup) -> None:
        import subprocess

        place = [setup.folder, setup.cache, "--threads", str(setup.threads)]
        command = [python, str(Path(__file__).resolve()), engine, *place]
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
        # A checkout has its bytecode as an installed package has, or it alone would be compiled at every start.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, text=True, env=environment)

    def __enter__(self) -> Process:
        self._reply()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def answer(self, job: Job) -> dict[str, Any]:
        """What `answer` says there, and `since_start`, the seconds from its first line to now."""
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise Unsupported(f"the process of the engine ended with status {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        if "unsupported" in reply:
            raise Unsupported(reply["unsupported"])
        return reply


if __name__ == "__main__":
    serve()
