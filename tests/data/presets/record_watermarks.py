"""Record what the watermarks of transformers do: `python record_watermarks.py` writes watermarks.json. Needs torch.

Each text is fed token by token, as `generate` does. Of green lists the green tokens after every token are recorded,
and what the detector counts; of tournaments, the distribution after every token.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from cases import softmax
from transformers import PretrainedConfig, WatermarkDetector, WatermarkingConfig
from transformers.generation import SynthIDTextWatermarkLogitsProcessor

VOCAB = 64
LOGITS = np.random.default_rng(8).normal(0, 2, VOCAB).round(2)
PROMPT = [3, 50, 7]
TEXT = [12, 63, 12, 63, 12, 5, 0, 41, 12, 63, 12, 33]  # some contexts come again
GREEN = [
    {},
    {"greenlist_ratio": 0.5, "bias": 1.5, "hashing_key": 42},
    {"context_width": 3},
    {"seeding_scheme": "selfhash"},
    {"seeding_scheme": "selfhash", "context_width": 3, "greenlist_ratio": 0.4},
]
KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57]
TOURNAMENTS = [
    {"keys": KEYS, "ngram_len": 5},
    {"keys": KEYS[:2], "ngram_len": 2},
    {"keys": [2**62 + 11, 5], "ngram_len": 3, "sampling_table_seed": 7, "sampling_table_size": 1000},
    {"keys": KEYS[:3], "ngram_len": 2, "context_history_size": 2},
    {"keys": KEYS[:3], "ngram_len": 3, "skip_first_ngram_calls": True},
]


def prefixes():
    """The text after each of its tokens, shape (1, length)."""
    for end in range(len(TEXT) + 1):
        yield torch.tensor([PROMPT + TEXT[:end]])


def green(config):
    """What is raised after each token, and what the detector counts in text without the prompt."""
    settings = WatermarkingConfig(**config)
    processor = settings.construct_processor(VOCAB, "cpu")
    scores = torch.tensor(LOGITS[None], dtype=torch.float32)
    raised = [(processor(prefix, scores) > scores)[0].nonzero()[:, 0].tolist() for prefix in prefixes()]
    detector = WatermarkDetector(
        PretrainedConfig(vocab_size=VOCAB, bos_token_id=1), "cpu", settings, ignore_repeated_ngrams=True
    )
    found = detector(torch.tensor([TEXT]), return_dict=True)
    counts = [int(found.num_green_tokens[0]), int(found.num_tokens_scored[0])]
    return {"config": config, "green": raised, "detected": counts}


def tournament(config):
    """The distribution after each token."""
    defaults = {"sampling_table_size": 2**16, "sampling_table_seed": 0, "context_history_size": 1024}
    processor = SynthIDTextWatermarkLogitsProcessor(**{**defaults, **config}, device="cpu")
    scores = torch.tensor(LOGITS[None], dtype=torch.float32)
    return {
        "config": config,
        "distributions": [softmax(processor(prefix, scores)[0].tolist()) for prefix in prefixes()],
    }


data = {
    "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    **{"logits": LOGITS.tolist(), "prompt": PROMPT, "text": TEXT},
    "green": [green(config) for config in GREEN],
    "tournament": [tournament(config) for config in TOURNAMENTS],
}
lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in data.items()]
(Path(__file__).parent / "watermarks.json").write_text("{" + ",\n".join(lines) + "}\n")
