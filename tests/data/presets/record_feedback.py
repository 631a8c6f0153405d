"""Record what llama.cpp's samplers with feedback leave of literal logits, step by step.

`python record_feedback.py` writes feedback.json: for each step, the distribution that the sampler drew from, and what
it drew. Needs llama-cpp-python.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import llama_cpp
import numpy as np

ROWS = np.random.default_rng(12).normal(0, 2, (12, 30)).round(4)  # (steps, vocab)
SAMPLERS = {
    "mirostat_1": lambda tau, eta, m: llama_cpp.llama_sampler_init_mirostat(ROWS.shape[1], 5, tau, eta, m),
    "mirostat_2": lambda tau, eta: llama_cpp.llama_sampler_init_mirostat_v2(5, tau, eta),
    "adaptive_p": lambda target, decay: llama_cpp.llama_sampler_init_adaptive_p(target, decay, 5),
}
CASES = [
    ("mirostat_1", {"tau": 2.0, "eta": 0.3, "m": 100}, None),
    ("mirostat_1", {"tau": 1.0, "eta": 0.1, "m": 5}, 0.8),
    ("mirostat_2", {"tau": 2.0, "eta": 0.3}, None),
    ("mirostat_2", {"tau": 1.0, "eta": 0.1}, 0.8),
    ("adaptive_p", {"target": 0.3, "decay": 0.9}, None),
    ("adaptive_p", {"target": 0.7, "decay": 0.5}, 1.5),
]


def steps(name, parameters, temperature):
    """The distribution, and what was drawn, for each row."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if temperature is not None:
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(temperature))
    llama_cpp.llama_sampler_chain_add(chain, SAMPLERS[name](*parameters.values()))
    for row in ROWS.tolist():
        array = (llama_cpp.llama_token_data * len(row))()
        for token, logit in enumerate(row):
            array[token].id, array[token].logit, array[token].p = token, logit, 0.0
        data = llama_cpp.llama_token_data_array(array, len(row), -1, False)
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(data))
        found = [0.0] * len(row)
        for place in range(data.size):
            found[data.data[place].id] = float(f"{data.data[place].p:.7g}")
        token = data.data[data.selected].id
        llama_cpp.llama_sampler_accept(chain, token)
        yield {"distribution": found, "token": token}
    llama_cpp.llama_sampler_free(chain)


cases = [
    {"sampler": each[0], "parameters": each[1], "temperature": each[2], "steps": [*steps(*each)]} for each in CASES
]
head = {"versions": {"llama-cpp-python": llama_cpp.__version__}, "rows": ROWS.tolist()}
lines = ",\n".join(json.dumps(case) for case in cases)
(Path(__file__).parent / "feedback.json").write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')
