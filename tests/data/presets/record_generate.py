"""Record what transformers' `generate` decodes from a table of logits: `python record_generate.py`.

It writes generate.json. Greedy, beam and prompt-lookup decoding are recorded as tokens; sampling as the tokens of one
draw with the distribution that each of them was drawn from; beam sampling as what its processors leave for the first
token. Needs torch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from cases import softmax
from transformers import (
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
    SynthIDTextWatermarkingConfig,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

TABLE = np.random.default_rng(4).normal(0, 2, (3, 10, 10)).round(2)  # (length modulo 3, last token, next token)
TABLE[0, :, 9] += 2.5  # what ends a text is likely at every third length
PROMPTS = [[1, 2, 3, 1, 2], [4, 4]]
EOS = {"eos_token_id": 9}
CONFIGS = [
    {"max_new_tokens": 12},
    {"max_new_tokens": 12, **EOS},
    {},
    {"max_length": 9, **EOS},
    {"max_new_tokens": 12, "eos_token_id": [9, 0]},
    {"max_new_tokens": 10, **EOS, "repetition_penalty": 1.8, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 10, **EOS, "min_new_tokens": 8, "repetition_penalty": 2.5},
    {"max_new_tokens": 10, **EOS, "min_length": 9, "suppress_tokens": [2, 5], "begin_suppress_tokens": [7, 3]},
    {"max_new_tokens": 8, **EOS, "encoder_repetition_penalty": 3.0, "encoder_no_repeat_ngram_size": 2},
    {"max_new_tokens": 8, **EOS, "bad_words_ids": [[6], [3, 1], [9]], "sequence_bias": [[[4], -2.0], [[1, 2], 4.0]]},
    {"max_new_tokens": 6, **EOS, "forced_eos_token_id": 9},
    {"max_new_tokens": 12, **EOS, "exponential_decay_length_penalty": [2, 2.0]},
    {"max_new_tokens": 9, **EOS, "prompt_lookup_num_tokens": 3},
    {"max_new_tokens": 9, **EOS, "prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 1, "top_p": 0.5},
    {"max_new_tokens": 5, **EOS, "forced_bos_token_id": 7},
    {"max_new_tokens": 8, **EOS, "watermarking_config": {"bias": 4.0, "greenlist_ratio": 0.3}},
    {"max_new_tokens": 6, **EOS, "watermarking_config": {"bias": 3.0}, "num_beams": 2, "num_return_sequences": 2},
    {"max_new_tokens": 6, **EOS, "watermarking_config": {"bias": 3.0}, "do_sample": True, "top_k": 7, "top_p": 0.9},
    {"max_new_tokens": 9, "watermarking_config": {"ngram_len": 2, "keys": [3, 99, 7]}, "do_sample": True, "top_k": 0},
    {"max_new_tokens": 6, **EOS, "num_beams": 3, "num_return_sequences": 3},
    {"max_new_tokens": 6, **EOS, "num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0},
    {"max_new_tokens": 8, **EOS, "num_beams": 4, "early_stopping": True, "num_return_sequences": 4},
    {"max_new_tokens": 8, **EOS, "num_beams": 2, "early_stopping": "never", "length_penalty": 2.0},
    {"max_length": 8, **EOS, "num_beams": 3, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_length": 6},
    {"max_new_tokens": 6, **EOS, "do_sample": True},
    {"max_new_tokens": 6, **EOS, "do_sample": True, "temperature": 0.7, "top_k": 4},
    {"max_new_tokens": 6, **EOS, "do_sample": True, "top_k": 0, "top_p": 0.8, "min_p": 0.1, "typical_p": 0.9},
    {"max_new_tokens": 6, **EOS, "do_sample": True, "epsilon_cutoff": 0.05, "eta_cutoff": 0.1, "top_h": 0.8},
    {"max_new_tokens": 4, **EOS, "do_sample": True, "num_beams": 2, "temperature": 0.5, "top_k": 1, "min_p": 0.9},
    {"max_new_tokens": 4, **EOS, "do_sample": True, "num_beams": 3, "top_p": 0.2, "repetition_penalty": 1.4},
    {"max_new_tokens": 4, "eos_token_id": [9, 0], "do_sample": True, "num_beams": 2, "epsilon_cutoff": 0.4},
    {
        **{"max_new_tokens": 8, **EOS, "do_sample": True, "temperature": 1.5, "top_p": 0.95, "repetition_penalty": 1.3},
        **{"no_repeat_ngram_size": 3, "min_new_tokens": 5, "bad_words_ids": [[0, 1]], "suppress_tokens": [4]},
        **{"renormalize_logits": True, "output_scores": True, "use_cache": False},
    },
]


class Table(PreTrainedModel, GenerationMixin):
    """A model whose logits depend on the last token, and on the length modulo 3."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self):
        super().__init__(PretrainedConfig(vocab_size=10, is_encoder_decoder=False, num_hidden_layers=1))
        self.table = torch.nn.Parameter(torch.tensor(TABLE, dtype=torch.float32))

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **_):
        return {"input_ids": input_ids, "past_key_values": past_key_values}

    def forward(self, input_ids, past_key_values=None, **_):
        lengths = torch.arange(1, input_ids.shape[1] + 1) % 3
        cache = past_key_values or DynamicCache()  # an empty one: prompt lookup crops it
        return CausalLMOutputWithPast(logits=self.table[lengths, input_ids], past_key_values=cache)


cases = []
model = Table()
for config in CONFIGS:
    for prompt in [*PROMPTS, [5]] if "forced_bos_token_id" in config else PROMPTS:
        torch.manual_seed(len(cases))
        given = {key: value for key, value in config.items() if key not in ("output_scores", "use_cache")}
        if "sequence_bias" in given:
            given["sequence_bias"] = {tuple(tokens): bias for tokens, bias in given["sequence_bias"]}
        if "ngram_len" in given.get("watermarking_config", {}):
            given["watermarking_config"] = SynthIDTextWatermarkingConfig(**given["watermarking_config"])
        settings = GenerationConfig(
            **given,
            use_cache="prompt_lookup_num_tokens" in config,  # which wants one, though this model has none
            output_scores=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
        out = model.generate(torch.tensor([prompt]), generation_config=settings)
        ends = np.array(config.get("eos_token_id", []))
        tokens = [row[len(prompt) :] for row in out.sequences.tolist()]
        padded = [np.flatnonzero(np.isin(row, ends)) for row in tokens]
        unpadded = [row[: end[0] + 1] if len(end) else row for row, end in zip(tokens, padded, strict=True)]
        case = {"config": config, "prompt": prompt, "tokens": unpadded}
        if config.get("do_sample") and config.get("num_beams"):
            case = {"config": config, "prompt": prompt, "first": softmax(out.scores[0][0])}
        elif config.get("num_beams"):
            case["scores"] = [round(score, 6) for score in out.sequences_scores.tolist()]
        elif config.get("do_sample"):
            case["distributions"] = [softmax(scores[0]) for scores in out.scores]
        cases.append(case)
head = {"versions": {"transformers": transformers.__version__, "torch": torch.__version__}, "table": TABLE.tolist()}
lines = ",\n".join(json.dumps(case) for case in cases)
(Path(__file__).parent / "generate.json").write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')
print(len(cases), "cases")
