"""Record what transformers and openvino.genai find by beam search on small transition tables, in `beams.json`.

    python tests/data/record_beams.py FOLDER

FOLDER holds any OpenVINO tokenizer and detokenizer, which genai wants to see and which have no effect here. Needs
torch, transformers, openvino and openvino-genai; the file names the versions that made it.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as op
import openvino_genai
import torch
import transformers
from openvino.op import assign, read_value
from openvino.op.util import Variable, VariableInfo
from transformers.modeling_outputs import CausalLMOutput

VOCAB, EOS, PROMPT = 12, 11, 3
SEEDS = (0, 1, 9, 12)  # no two sequences tie there, and the engines' rules lead to different results
CRITERIA = {
    "true": openvino_genai.StopCriteria.EARLY,
    "false": openvino_genai.StopCriteria.HEURISTIC,
    "never": openvino_genai.StopCriteria.NEVER,
}


def table(seed: int) -> np.ndarray:
    """Logits of the token after each token, shape (VOCAB, VOCAB); tests build the same."""
    rows = np.random.default_rng(seed).standard_normal((VOCAB, VOCAB)) * 1.5
    rows[:, EOS] += 1.0
    return rows.astype(np.float32)


class Table(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A transition table as a model of transformers."""

    config_class = transformers.PretrainedConfig

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(transformers.PretrainedConfig(vocab_size=VOCAB, is_encoder_decoder=False))
        self.rows = torch.nn.Parameter(torch.from_numpy(rows), requires_grad=False)

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=self.rows[input_ids])


def save_table(rows: np.ndarray, path: Path) -> None:
    """A transition table as a stateful model with the ports that genai asks for; only `input_ids` has an effect."""
    ports = {
        name: op.parameter([-1, -1], ov.Type.i64, name=name) for name in ("input_ids", "attention_mask", "position_ids")
    }
    ports["beam_idx"] = op.parameter([-1], ov.Type.i32, name="beam_idx")
    for name, port in ports.items():
        port.output(0).get_tensor().set_names({name})
    info = VariableInfo()
    info.variable_id, info.data_type = "past_key_values.0.key", ov.Type.f32
    info.data_shape = ov.PartialShape([-1, 1, 1, 1])
    state = Variable(info)
    batch = op.gather(op.shape_of(ports["input_ids"]), op.constant([0]), op.constant(0))
    start = op.broadcast(op.constant(np.float32(0)), op.concat([batch, op.constant(np.array([1, 1, 1]))], 0))
    kept = op.gather(read_value(start, state), ports["beam_idx"], op.constant(0))
    unused = [
        op.reduce_sum(op.convert(ports[name], "f32"), op.constant([1])) for name in ("attention_mask", "position_ids")
    ]
    nothing = op.multiply(
        op.add(op.add(*unused), op.reduce_sum(kept, op.constant([1, 2, 3]))), op.constant(np.float32(0))
    )
    looked_up = op.gather(op.constant(rows), ports["input_ids"], op.constant(0))
    result = op.result(op.add(looked_up, op.unsqueeze(nothing, op.constant([1, 2]))))
    result.output(0).get_tensor().set_names({"logits"})
    ov.save_model(ov.Model([result], [assign(kept, state)], [*ports.values()], "table"), path, compress_to_fp16=False)


def by_transformers(rows: np.ndarray, case: dict) -> list:
    config = transformers.GenerationConfig(
        num_beams=case["num_beams"],
        num_return_sequences=case["num_beams"],
        length_penalty=case["length_penalty"],
        early_stopping={"true": True, "false": False}.get(case["early_stopping"], "never"),
        max_new_tokens=case["max_new_tokens"],
        eos_token_id=EOS,
        pad_token_id=VOCAB,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    out = Table(rows).generate(torch.tensor([[PROMPT]]), generation_config=config)
    sequences = [[token for token in row[1:] if token != VOCAB] for row in out.sequences.tolist()]
    return [[tokens, round(score, 5)] for tokens, score in zip(sequences, out.sequences_scores.tolist(), strict=True)]


def by_genai(pipeline: openvino_genai.LLMPipeline, case: dict) -> list:
    config = openvino_genai.GenerationConfig()
    config.num_beams = config.num_return_sequences = case["num_beams"]
    config.num_beam_groups = case["num_beam_groups"]
    config.diversity_penalty = case["diversity_penalty"]
    config.length_penalty = case["length_penalty"]
    config.stop_criteria = CRITERIA[case["early_stopping"]]
    config.max_new_tokens = case["max_new_tokens"]
    config.eos_token_id, config.stop_token_ids = EOS, {EOS}
    config.apply_chat_template = False
    out = pipeline.generate(ov.Tensor(np.array([[PROMPT]], np.int64)), config)
    return [[list(tokens), round(score, 5)] for tokens, score in zip(out.tokens, out.scores, strict=True)]


def main(tokenizers: str) -> None:
    recorded = []
    for seed in SEEDS:
        rows = table(seed)
        with tempfile.TemporaryDirectory() as folder:
            for file in Path(tokenizers).glob("openvino_*tokenizer*"):
                shutil.copy(file, folder)
            save_table(rows, Path(folder, "openvino_model.xml"))
            pipeline = openvino_genai.LLMPipeline(
                folder, "CPU", ATTENTION_BACKEND="SDPA", INFERENCE_PRECISION_HINT="f32"
            )
            for beams, penalty, stopping, length in itertools.product(
                (2, 4), (0.0, 1.0, 2.0), ("true", "false", "never"), (5, 8)
            ):
                case = {
                    "seed": seed,
                    "num_beams": beams,
                    "num_beam_groups": 1,
                    "diversity_penalty": 0.0,
                    "length_penalty": penalty,
                    "early_stopping": stopping,
                    "max_new_tokens": length,
                }
                recorded.append({**case, "engine": "hf", "found": by_transformers(rows, case)})
                recorded.append({**case, "engine": "genai", "found": by_genai(pipeline, case)})
                if beams == 4:
                    case |= {"num_beam_groups": 2, "diversity_penalty": 0.7}
                    recorded.append({**case, "engine": "genai", "found": by_genai(pipeline, case)})
            del pipeline
    versions = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "openvino": ov.__version__,
        "openvino_genai": openvino_genai.__version__,
    }
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in recorded)
    Path(__file__).with_name("beams.json").write_text(f'{{"versions":{json.dumps(versions)},"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
