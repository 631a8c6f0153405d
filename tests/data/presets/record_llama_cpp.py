"""Record what llama.cpp's sampler chain leaves of literal logits: `python record_llama_cpp.py` writes llama.cpp.json.

The chain is that of `common_sampler_init` (common/sampling.cpp) with the defaults of `common_params_sampling`
(common/common.h); DRY's sequence breakers are text, and left out. Needs llama-cpp-python, and any GGUF file as
argument, as DRY wants a vocabulary.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter

import llama_cpp
from cases import ROWS, write

DEFAULTS = {
    **{"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "top_n_sigma": -1.0},
    **{"dry_multiplier": 0.0},
    **{"top_k": 40, "typical": 1.0, "top_p": 0.95, "min_p": 0.05},
    **{"xtc_probability": 0.0, "xtc_threshold": 0.1, "temperature": 0.8},
}
PARAMETERS = [
    {},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 0.0, "top_k": 0},
    {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
    {"top_p": 0.6},
    {"min_p": 0.2, "temperature": 1.7},
    {"typical": 0.6},
    {"typical": 0.5, "top_k": 8, "temperature": 1.0},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.1, "temperature": 0.6},
    {"repetition_penalty": 1.4},
    {"presence_penalty": 0.9},
    {"dry_multiplier": 0.8},
    {"dry_multiplier": 2.0, "repetition_penalty": 1.2, "top_k": 12},
    {"frequency_penalty": 0.7},
    {"repetition_penalty": 1.2, "presence_penalty": -0.5, "frequency_penalty": 0.4, "top_k": 10},
    {"xtc_probability": 1.0, "xtc_threshold": 0.1},
    {"xtc_probability": 1.0, "xtc_threshold": 0.2, "temperature": 1.5, "min_p": 0.02},
    {"xtc_probability": 0.5, "xtc_threshold": 0.08, "temperature": 0.7},
]
SEEDS = 64
MODEL = llama_cpp.llama_model_default_params()
MODEL.vocab_only = True
VOCAB = llama_cpp.llama_model_get_vocab(llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), MODEL))


def chain(given, seed):
    """The stages in order; each that is at its default value off does nothing."""
    made = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for stage in (
        llama_cpp.llama_sampler_init_penalties(
            24, 64, given["repetition_penalty"], given["frequency_penalty"], given["presence_penalty"]
        ),
        llama_cpp.llama_sampler_init_dry(VOCAB, given["dry_multiplier"], 1.75, 2, 4096, None, 0),
        llama_cpp.llama_sampler_init_top_n_sigma(given["top_n_sigma"]),
        llama_cpp.llama_sampler_init_top_k(given["top_k"]),
        llama_cpp.llama_sampler_init_typical(given["typical"], 0),
        llama_cpp.llama_sampler_init_top_p(given["top_p"], 0),
        llama_cpp.llama_sampler_init_min_p(given["min_p"], 0),
        llama_cpp.llama_sampler_init_xtc(given["xtc_probability"], given["xtc_threshold"], 0, seed),
        llama_cpp.llama_sampler_init_temp_ext(given["temperature"], 0.0, 1.0),
        llama_cpp.llama_sampler_init_dist(seed),
    ):
        llama_cpp.llama_sampler_chain_add(made, stage)
    return made


def distribution(row, given, seed):
    """The probabilities that the last stage draws from."""
    logits = row["logits"]
    array = (llama_cpp.llama_token_data * len(logits))()
    for token, logit in enumerate(logits):
        array[token].id, array[token].logit, array[token].p = token, logit, 0.0
    data = llama_cpp.llama_token_data_array(array, len(logits), -1, False)
    made = chain(given, seed)
    for token in row["prompt"] + row["generated"]:
        llama_cpp.llama_sampler_accept(made, token)
    llama_cpp.llama_sampler_apply(made, ctypes.byref(data))
    llama_cpp.llama_sampler_free(made)
    found = [0.0] * len(logits)
    for place in range(data.size):
        found[data.data[place].id] = float(f"{data.data[place].p:.7g}")
    return found


cases = []
for name, row in ROWS.items():
    for parameters in PARAMETERS:
        given = {**DEFAULTS, **parameters}
        seen = Counter(tuple(distribution(row, given, seed)) for seed in range(1, SEEDS + 1))
        # With an XTC that strikes sometimes there are two outcomes: the one that is struck has fewer tokens.
        outcomes = sorted(seen, key=lambda found: sum(value > 0 for value in found))
        share = given["xtc_probability"] if len(outcomes) > 1 else 1.0
        assert len(outcomes) == (1 if share == 1 else 2), outcomes
        mixed = [share * one + (1 - share) * other for one, other in zip(outcomes[0], outcomes[-1], strict=True)]
        cases.append(
            {"row": name, "parameters": parameters, "distribution": [float(f"{value:.7g}") for value in mixed]}
        )
write("llama.cpp", {"llama-cpp-python": llama_cpp.__version__}, cases)
