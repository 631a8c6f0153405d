"""Record what vLLM's own functions leave of literal logits: `python record_vllm.py vllm-<version>.whl`.

It writes vllm.json. vLLM itself wants a GPU; its sampler's functions are plain torch, and are read out of its wheel.
Needs torch.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from cases import ROWS, function_of, softmax, write

WHEEL = Path(sys.argv[1])
PARAMETERS = [
    {},
    {"temperature": 0.6},
    {"temperature": 0.0, "top_k": 3},
    {"top_k": 5},
    {"top_k": 1},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"temperature": 1.4, "top_k": 9, "top_p": 0.85, "min_p": 0.04},
    {"temperature": 1.4, "min_p": 0.3, "top_p": 0.7},
    {"temperature": 0.5, "min_p": 0.1, "top_k": 4},
    {"repetition_penalty": 1.3},
    {"presence_penalty": 0.9},
    {"frequency_penalty": 0.7},
    {"repetition_penalty": 1.2, "presence_penalty": -0.5, "frequency_penalty": 0.4, "top_k": 10, "top_p": 0.9},
]


function = partial(function_of, WHEEL, torch=torch)
apply_penalties = function(
    "vllm/model_executor/layers/utils.py",
    "apply_penalties",
    get_token_bin_counts_and_mask=function("vllm/model_executor/layers/utils.py", "get_token_bin_counts_and_mask"),
    apply_repetition_penalties=function("vllm/_custom_ops.py", "apply_repetition_penalties_torch"),
)
apply_temperature = function("vllm/v1/sample/sampler.py", "Sampler.apply_temperature", _SAMPLING_EPS=1e-5)
apply_min_p = function("vllm/v1/sample/logits_processor/builtin.py", "MinPLogitsProcessor.apply")
apply_top_k_top_p = function("vllm/v1/sample/ops/topk_topp_sampler.py", "apply_top_k_top_p_pytorch")


def distribution(row, parameters) -> list[float]:
    """The steps of `Sampler.forward` for one request, on the path without Triton."""
    given = {
        **{"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},  # of `SamplingParams`
        **{"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0},
        **parameters,
    }
    logits = torch.tensor([row["logits"]])
    apply_penalties(
        logits,
        torch.tensor([row["prompt"]]),
        torch.tensor([row["generated"]]),
        torch.tensor([given["presence_penalty"]]),
        torch.tensor([given["frequency_penalty"]]),
        torch.tensor([given["repetition_penalty"]]),
    )
    if given["temperature"] < 1e-5:  # greedy, decided before anything else is applied
        return [float(token == int(logits.argmax())) for token in range(logits.shape[1])]
    logits = apply_temperature(logits, torch.tensor([given["temperature"]]), True)
    if given["min_p"] > 0:
        logits = apply_min_p(SimpleNamespace(min_p_count=1, min_p=torch.tensor([[given["min_p"]]])), logits)
    top_k = torch.tensor([given["top_k"]]) if given["top_k"] > 0 else None
    top_p = torch.tensor([given["top_p"]]) if given["top_p"] < 1 else None
    return softmax(apply_top_k_top_p(logits, top_k, top_p)[0])


cases = [
    {"row": name, "parameters": parameters, "distribution": distribution(row, parameters)}
    for name, row in ROWS.items()
    for parameters in PARAMETERS
]
write("vllm", {"vllm": WHEEL.name.split("-")[1], "torch": torch.__version__}, cases)
