"""Record what fairseq's sampling leaves of literal logits: `python record_fairseq.py fairseq-<version>.whl`.

It writes fairseq.json. fairseq does not install on a Python of today; its `Sampling` is plain torch, and is read out of
its wheel. Needs torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from cases import ROWS, function_of, write

WHEEL = Path(sys.argv[1])
PARAMETERS = [
    {},
    {"temperature": 0.6},
    {"top_k": 5},
    {"top_p": 0.7},
    {"top_p": 0.7, "top_k": 1},
    {"top_p": 1.0, "temperature": 1.5},
    {"temperature": 1.4, "top_k": 9},
]
sample_top_p = function_of(WHEEL, "fairseq/search.py", "Sampling._sample_topp", torch=torch)


def distribution(row, parameters):
    """The weights of the one draw, and where each place of it leads."""
    given = {"temperature": 1.0, "top_p": -1.0, "top_k": -1, **parameters}  # of fairseq's command line
    lprobs = torch.log_softmax(torch.tensor([[row["logits"]]]) / given["temperature"], -1)
    found, place, places = [0.0] * len(row["logits"]), 0, 1
    while place < places:
        weights = None

        def multinomial(probs, count, replacement, place=place):
            nonlocal weights
            weights = probs[0] / probs.sum()
            return torch.tensor([[place]])

        step = function_of(
            WHEEL,
            "fairseq/search.py",
            "Sampling.step",
            torch=SimpleNamespace(multinomial=multinomial, gather=torch.gather, empty=torch.empty),
        )
        sampling = SimpleNamespace(
            sampling_topp=given["top_p"],
            sampling_topk=given["top_k"],
            _sample_topp=lambda lprobs: sample_top_p(SimpleNamespace(sampling_topp=given["top_p"]), lprobs),
        )
        _, tokens, _ = step(sampling, 0, lprobs.clone(), None)
        found[int(tokens)], places = float(f"{weights[place]:.7g}"), len(weights)
        place += 1
    return found


cases = [
    {"row": name, "parameters": parameters, "distribution": distribution(row, parameters)}
    for name, row in ROWS.items()
    for parameters in PARAMETERS
]
write("fairseq", {"fairseq": WHEEL.name.split("-")[1], "torch": torch.__version__}, cases)
