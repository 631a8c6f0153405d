"""Record what openvino.genai draws from literal logits: `python record_genai.py` writes genai.json.

Its sampler shows no distribution, so it is asked for many draws; the counts are recorded. The model is a graph that
looks the logits up by position: those before the last force the history. Needs openvino-genai, and the folder of any
OpenVINO tokenizer as argument, as a pipeline must have one.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai
from cases import ROWS, write
from openvino import opset13 as op

TOKENIZER = Path(sys.argv[1])
DRAWS = 20_000
ALONE = 4_000  # draws of a sequence without siblings: they share their penalties' counts
PARAMETERS = [
    {},
    {"temperature": 0.6},
    {"top_k": 5},
    {"top_k": 6, "temperature": 2.0, "top_p": 0.8},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"temperature": 1.4, "top_k": 9, "min_p": 0.15, "top_p": 0.9},
    {"repetition_penalty": 1.4},
    {"presence_penalty": 0.9},
    {"frequency_penalty": 0.7},
    {"repetition_penalty": 1.2, "presence_penalty": -0.5, "frequency_penalty": 0.4, "top_k": 10},
]


def graph(table):
    """logits = table[position], and a state that grows like a key/value cache; table has shape (positions, vocab)."""
    ids, mask, positions = (op.parameter([-1, -1], np.int64) for _ in range(3))
    beams = op.parameter([-1], np.int32)
    for node, name in zip(
        (ids, mask, positions, beams), ("input_ids", "attention_mask", "position_ids", "beam_idx"), strict=True
    ):
        node.output(0).set_names({name})
    axes = [
        op.gather(op.shape_of(each), np.int64([axis]), np.int64(0)) for each, axis in ((ids, 0), (mask, 1), (ids, 1))
    ]
    one = op.constant(np.int64([1]))
    empty = op.broadcast(np.float32(0), op.concat([axes[0], one, op.subtract(axes[1], axes[2]), one], 0))
    past = op.read_value(empty, "past_key_values.0.key", ov.Type.f32, ov.PartialShape([-1, 1, -1, 1]))
    new = op.convert(op.unsqueeze(op.unsqueeze(ids, np.int64(1)), np.int64(3)), "f32")
    cache = op.concat([op.gather(past, beams, np.int64(0)), new], 2)
    nothing = op.multiply(op.reduce_sum(cache, np.int64([1, 2]), keep_dims=True), np.float32(0))  # (batch, 1, 1, 1)
    logits = op.gather(op.constant(table.astype(np.float32)), positions, np.int64(0))  # (batch, length, vocab)
    logits = op.add(logits, op.squeeze(nothing, np.int64([3])))
    logits.output(0).set_names({"logits"})
    return ov.Model([op.result(logits)], [op.assign(cache, "past_key_values.0.key")], [ids, mask, positions, beams])


def counts(row, all_parameters):
    """For each set of parameters, how often each token came after the history; shape (vocab,)."""
    start, end = len(row["prompt"]) - 1, len(row["prompt"]) + len(row["generated"]) - 1
    table = np.full((end + 1, len(row["logits"])), -60.0)
    table[np.arange(start, end), row["generated"]] = 60.0
    table[end] = row["logits"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ov.save_model(graph(table), folder / "openvino_model.xml", compress_to_fp16=False)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        for file in TOKENIZER.glob("openvino_*tokenizer.*"):
            shutil.copy(file, folder)
        pipeline = openvino_genai.LLMPipeline(
            folder, "CPU", ATTENTION_BACKEND="SDPA", INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS=1
        )
        for parameters in all_parameters:
            alone = any("penalty" in parameter for parameter in parameters)
            config = openvino_genai.GenerationConfig(
                do_sample=True,
                ignore_eos=True,
                max_new_tokens=len(row["generated"]) + 1,
                num_return_sequences=1 if alone else 500,
            )
            for parameter, value in parameters.items():
                setattr(config, parameter, value)
            found = np.zeros(len(row["logits"]), int)
            for seed in range((ALONE if alone else DRAWS) // config.num_return_sequences):
                config.rng_seed = seed
                for tokens in pipeline.generate(ov.Tensor(np.array([row["prompt"]], np.int64)), config).tokens:
                    assert tokens[:-1] == row["generated"], (parameters, tokens)
                    found[tokens[-1]] += 1
            yield parameters, found.tolist()


cases = [
    {"row": name, "parameters": parameters, "counts": found}
    for name, row in ROWS.items()
    for parameters, found in counts(row, PARAMETERS)
]
write("genai", {"openvino-genai": version("openvino-genai")}, cases)
