"""Every registered strategy and processor with the parameters that benchmarks run them with, and prompts."""

from __future__ import annotations

import json
from pathlib import Path

import ovdecode as od
from ovdecode import registry
from ovdecode.errors import OvdecodeError

# Where a second model is needed, it is the same one, loaded once more: what it costs does not depend on its weights.
STRATEGIES: dict[str, list[str]] = {
    "sampling": ["sampling:temperature=0.8,top_k=50,top_p=0.95"],
    "beam": ["beam:num_beams=4"],
    "adaptive_p_sampling": ["adaptive_p_sampling:target=0.5,processors=(min_p:p=0.05)"],
    "diverse_beam": ["diverse_beam:num_beams=4,num_beam_groups=2"],
    "stochastic_beam": ["stochastic_beam:num_beams=4"],
    "constrained_beam": ['constrained_beam:num_beams=4,phrases=" the best"'],
    "exact_search": ["exact_search:max_nodes=32"],
    "a_star": ["a_star:max_nodes=32,batch_size=4"],
    "best_of_n": ["best_of_n:n=4"],
    "self_consistency": ["self_consistency:n=4"],
    "mbr": ["mbr:n=4"],
    "smc": ["smc:num_particles=4,processors=(no_repeat_ngram:size=3)"],
    "contrastive_decoding": ["contrastive_decoding:amateur=smollm2,amateur_temperature=0.5"],
    "ensemble": ["ensemble:models=[smollm2]"],
    "dexperts": ["dexperts:expert=smollm2"],
    "proxy_tuning": ["proxy_tuning:tuned=smollm2,untuned=smollm2"],
    "speculative": [
        "speculative",
        "speculative:strategy=(sampling:top_p=0.95),proposer=(suffix_index)",
        "speculative:proposer=(draft_model:model=smollm2)",
        "speculative:proposer=(draft_tree:model=smollm2)",
        "speculative:proposer=(early_exit:layer=28)",
    ],
}
PROCESSORS: dict[str, list[str]] = {
    "temperature": ["temperature:temperature=0.8"],
    "top_k": ["top_k:k=50"],
    "top_p": ["top_p:p=0.95"],
    "min_p": ["min_p:p=0.05"],
    "typical": ["typical:mass=0.95"],
    "at_least": ["at_least:count=5,processor=(top_p:p=0.9)"],
    "dynamic_temperature": ["dynamic_temperature:low=0.5,high=1.5"],
    "edt": ["edt:temperature=0.8,theta=1"],
    "adapt": ["adapt:hard=1.2,easy=0.8"],
    "epsilon": ["epsilon:epsilon=0.0003"],
    "eta": ["eta:epsilon=0.0003"],
    "quadratic": ["quadratic:factor=0.3"],
    "skew": ["skew:skew=0.5"],
    "adaptive_p": ["adaptive_p:target=0.3"],
    "repetition": ["repetition:penalty=1.2"],
    "presence": ["presence:penalty=0.5"],
    "frequency": ["frequency:penalty=0.5"],
    "encoder_repetition": ["encoder_repetition:penalty=1.2"],
    "no_repeat_ngram": ["no_repeat_ngram:size=3"],
    "encoder_no_repeat_ngram": ["encoder_no_repeat_ngram:size=3"],
    "regex": ['regex:pattern="[a-z ,.]*"'],
    "grammar": ['grammar:lark="start: /[a-z ,.]*/"'],
    "synthid_watermark": ["synthid_watermark", "top_k:k=100|synthid_watermark"],
    "synthid_watermark_hf": ["top_k:k=100|synthid_watermark_hf:keys=[654,400,836,123,340,443,597,160,57]"],
    "logit_bias": ["logit_bias:bias=[[200,5.0],[300,-1.5]]"],
    "allowed_tokens": [f"allowed_tokens:tokens={list(range(100, 1100))}".replace(" ", "")],
    "suppressed_tokens": [f"suppressed_tokens:tokens={list(range(100, 200))}".replace(" ", "")],
    "sequence_bias": ["sequence_bias:bias=[[[200],1.5],[[201,202],-3.0]]"],
    "bad_words": ["bad_words:sequences=[[200],[201,202]]"],
    "forced_tokens": ["forced_tokens:tokens=[200,201]"],
    "begin_suppress": ["begin_suppress:tokens=[200,201]"],
    "min_new_tokens": ["min_new_tokens:count=64"],
    "min_length": ["min_length:length=512"],
    "exponential_length_decay": ["exponential_length_decay:start=4,factor=1.01"],
    "forced_eos": ["forced_eos:count=512"],
}
NO_SPEC = {"hf_processor": "wraps a function of the user's"}

PROMPTS = [
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "The three most important inventions of the twentieth century are the transistor, the",
    "To make a good cup of coffee, first grind the beans. Then heat the water until",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "The difference between weather and climate is that weather describes what happens",
    "Dear Sir or Madam, I am writing to you about the bicycle that I bought from your shop",
    "In the year 2050, most people will live in cities, and most of their food will",
    "The capital of Australia is Canberra, which was chosen because Sydney and Melbourne",
]
MT_BENCH = Path(__file__).parents[2] / "shared" / "data" / "mt_bench.jsonl"


def specs(family: str) -> dict[str, list[str]]:
    """The spec strings of every registered plugin of a family: those of the tables, or its name alone.

    Raises:
        SystemExit: a plugin needs parameters that the tables do not give.
    """
    tables = {"strategy": STRATEGIES, "processor": PROCESSORS}
    found = {name: tables[family].get(name, [name]) for name in registry.names(family) if name not in NO_SPEC}
    for name, examples in found.items():
        for spec in examples:
            try:
                od.parse(spec, family)
            except OvdecodeError as error:
                raise SystemExit(f"benchmarks/methods.py needs an example of the {family} `{name}`: {error}") from error
    return found


def real_prompts() -> list[str]:
    """The questions of MT-bench where they are, and otherwise `PROMPTS`."""
    if not MT_BENCH.exists():
        return PROMPTS
    return [json.loads(line)["turns"][0] for line in MT_BENCH.read_text(encoding="utf-8").splitlines()]
