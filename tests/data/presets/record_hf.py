"""Record what transformers leaves of literal logits: `python record_hf.py` writes hf.json. Needs torch."""

from __future__ import annotations

import torch
import transformers
from cases import ROWS, softmax, write
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

PARAMETERS = [
    {},
    {"top_k": 5},
    {"top_k": 0},
    {"temperature": 0.6, "top_k": 12},
    {"top_p": 0.8},
    {"temperature": 1.5, "top_p": 0.9, "min_p": 0.05},
    {"min_p": 0.2, "top_k": 0},
    {"min_p": 0.3, "top_p": 0.7, "temperature": 1.4},
    {"typical": 0.6},
    {"top_k": 8, "typical": 0.5},
    {"epsilon": 0.03},
    {"eta": 0.05, "temperature": 1.3},
    {"top_h": 0.6},
    {"temperature": 0.7, "top_h": 0.4, "top_k": 6},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.8, "temperature": 0.9, "top_k": 10, "top_p": 0.95, "min_p": 0.02, "typical": 0.95},
]
NAMES = {"typical": "typical_p", "epsilon": "epsilon_cutoff", "eta": "eta_cutoff"}


class Row(PreTrainedModel, GenerationMixin):
    """A model that gives one row of logits, whatever the tokens are."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"
    _supports_cache_class = False

    def __init__(self, logits):
        super().__init__(PretrainedConfig(vocab_size=len(logits), is_encoder_decoder=False))
        self.row = torch.nn.Parameter(torch.tensor(logits))

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        return CausalLMOutputWithPast(logits=self.row.expand(*input_ids.shape, -1))


cases = []
for name, row in ROWS.items():
    for parameters in PARAMETERS:
        given = {NAMES.get(key, key): value for key, value in parameters.items()}
        config = GenerationConfig(
            do_sample=True, max_new_tokens=1, output_scores=True, return_dict_in_generate=True, use_cache=False, **given
        )
        tokens = torch.tensor([row["prompt"] + row["generated"]])
        scores = Row(row["logits"]).generate(tokens, generation_config=config).scores[0][0]
        cases.append({"row": name, "parameters": parameters, "distribution": softmax(scores)})
write("hf", {"transformers": transformers.__version__, "torch": torch.__version__}, cases)
