"""`from_generation_config` against what transformers' `generate` did with the same table: see tests/data/presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import GenerationConfig, WatermarkingConfig

import ovdecode as od
from ovdecode import Model, TableRunner, Task, from_generation_config
from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.models import ModelFolder
from ovdecode.numerics import log_softmax
from ovdecode.strategies.generation_fields import DEFAULTS, REFUSED, WITHOUT_EFFECT
from ovdecode.testing import distribution

DATA = json.loads((Path(__file__).parents[1] / "data" / "presets" / "generate.json").read_text())
TABLE = np.array(DATA["table"], np.float32)
DOLA = "dola:layers=high,strategy=(greedy:processors=(repetition:penalty=1.2))"
TOLERANCE = 2e-7
"""transformers computes in single precision, and seven places are recorded."""


def cases(*kinds: str) -> list[Any]:
    """Those with one of these recordings."""
    chosen = [case for case in DATA["cases"] if any(kind in case for kind in kinds)]
    return [pytest.param(case, id=f"{case['config']}-{case['prompt']}") for case in chosen]


def ends(case: dict[str, Any]) -> list[int]:
    found = case["config"].get("eos_token_id", [])
    return found if isinstance(found, list) else [found]


def model(case: dict[str, Any]) -> Model:
    return Model(TableRunner(lambda tokens: TABLE[len(tokens) % 3, tokens[-1]]), ends(case))


def generate(case: dict[str, Any]) -> od.Generation:
    (generation,) = od.run([Task(model(case), case["prompt"], **from_generation_config(case["config"]))])
    assert generation.error is None, generation.error
    return generation


@pytest.mark.parametrize("case", [each for each in cases("tokens") if "do_sample" not in each.values[0]["config"]])
def test_the_tokens_are_those_of_transformers(case: dict[str, Any]) -> None:
    assert [list(each.tokens) for each in generate(case).alternatives] == case["tokens"]


@pytest.mark.parametrize("case", cases("scores"))
def test_the_scores_of_beams_are_those_of_transformers(case: dict[str, Any]) -> None:
    assert [each.score for each in generate(case).alternatives] == pytest.approx(case["scores"], abs=5e-6)


@pytest.mark.parametrize("case", cases("distributions"))
def test_every_token_is_drawn_from_the_distribution_of_transformers(case: dict[str, Any]) -> None:
    options = from_generation_config(case["config"])
    sequence = model(case).vocabulary.prompt(case["prompt"])
    stop = Task(model(case), case["prompt"], **options).criterion
    for token, expected in zip(case["tokens"][0], case["distributions"], strict=True):
        assert not stop(sequence)
        logits = TABLE[sequence.length % 3, sequence.token]
        found = options["strategy"].candidates(logits, sequence).distribution(10)
        assert found == pytest.approx(expected, abs=TOLERANCE)
        sequence += token
    assert stop(sequence)


@pytest.mark.parametrize("case", cases("first"))
def test_beam_sampling_leaves_what_transformers_leaves(case: dict[str, Any]) -> None:
    strategy = from_generation_config(case["config"])["strategy"]
    assert strategy.name == "beam_sampling"
    sequence = model(case).vocabulary.prompt(case["prompt"])
    logprobs = log_softmax(TABLE[sequence.length % 3, sequence.token])
    found = strategy.candidates(logprobs, sequence).distribution(10)
    assert found == pytest.approx(case["first"], abs=TOLERANCE)


def test_a_watermark_may_be_an_object_of_transformers() -> None:
    green = from_generation_config(GenerationConfig(watermarking_config=WatermarkingConfig(hashing_key=7)))
    assert green["strategy"] == od.Greedy(processors=od.KgwWatermarkHF(7))
    tournament = {"ngram_len": 4, "keys": [1, 2], "debug_mode": False}
    found = from_generation_config({"watermarking_config": tournament, "do_sample": True, "top_k": 0})
    assert found["strategy"] == od.Sampling(processors=od.SynthIdWatermarkHF([1, 2], 4))
    with pytest.raises(UnknownNameError, match="unknown field of `watermarking_config`: `biass`; did you mean `bias`"):
        from_generation_config({"watermarking_config": {"biass": 1.0}})


def test_every_honoured_field_is_recorded_or_named_below() -> None:
    recorded = {name for case in DATA["cases"] for name in case["config"]}
    below = {
        *("max_time", "stop_strings", "num_beam_groups", "diversity_penalty", "penalty_alpha", "guidance_scale"),
        *("assistant_early_exit", "num_assistant_tokens", "assistant_confidence_threshold"),
        *("dola_layers", "token_healing", "force_words_ids"),
    }
    assert set(DEFAULTS) == (recorded | below) - WITHOUT_EFFECT


def test_every_field_of_the_installed_transformers_is_known() -> None:
    fields = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert fields <= {*DEFAULTS, *WITHOUT_EFFECT, *REFUSED}
    defaults = GenerationConfig._get_default_generation_params()
    # `max_length` counts from the prompt's end if it is not given: 20 new tokens.
    assert {name: defaults[name] for name in defaults if name in DEFAULTS and name != "max_length"} == {
        name: value for name, value in DEFAULTS.items() if name in defaults and name != "max_length"
    }


def test_a_configuration_may_be_an_object_a_mapping_a_file_or_a_folder(tmp_path: Path) -> None:
    config = GenerationConfig(do_sample=True, temperature=0.6, max_new_tokens=5, eos_token_id=[1, 2])
    config.save_pretrained(tmp_path)
    options = from_generation_config(config)
    assert str(options["strategy"]) == "sampling:temperature=0.6,preset=hf"
    assert options["max_new_tokens"] == 5
    assert (str(options["stop"]), options["ignore_eos"]) == ("eos:tokens=[1,2]", True)
    assert from_generation_config(tmp_path) == options
    assert from_generation_config(str(tmp_path / "generation_config.json")) == options
    assert from_generation_config(config.to_dict()) == options
    assert from_generation_config(config.to_diff_dict()) == options


def test_nothing_given_is_greedy_with_twenty_tokens_and_the_models_own_end() -> None:
    assert from_generation_config({}) == {
        "strategy": od.Greedy(),
        "max_new_tokens": 20,
        "stop": None,
        "ignore_eos": False,
    }


def test_stopping() -> None:
    config = {"max_length": 9, "max_time": 2.5, "stop_strings": ["ab", "c"], "eos_token_id": 3}
    options = from_generation_config(config)
    assert (
        str(options["stop"])
        == "max_length:length=9|max_time:seconds=2.5|stop_string:string=[ab,c],keep=true|eos:tokens=[3]"
    )
    assert options["max_new_tokens"] is None
    both = from_generation_config({"max_length": 9, "max_new_tokens": 4})
    assert (both["max_new_tokens"], both["stop"]) == (4, None)


@pytest.mark.parametrize(
    ("config", "strategy"),
    [
        (
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7},
            "diverse_beam:diversity_penalty=0.7",
        ),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive_search"),
        ({"penalty_alpha": 0.5, "repetition_penalty": 1.2}, None),
        ({"guidance_scale": 1.5}, "cfg"),
        (
            {"guidance_scale": 2.0, "do_sample": True, "top_k": 3},
            "cfg:guidance_scale=2.0,strategy=(sampling:top_k=3,preset=hf)",
        ),
        (
            {"prompt_lookup_num_tokens": 3, "do_sample": True},
            "speculative:strategy=(sampling:preset=hf),proposer=(prompt_lookup:num_tokens=3,max_ngram=2,factor=3)",
        ),
        (
            {"assistant_early_exit": 4, "num_assistant_tokens": 5, "assistant_confidence_threshold": 0.0},
            "speculative:proposer=(early_exit:layer=4,num_tokens=5)",
        ),
        ({"do_sample": True, "num_return_sequences": 3}, "best_of_n:n=3,strategy=(sampling:preset=hf)"),
        (
            {"do_sample": True, "num_return_sequences": 2, "guidance_scale": 2.0},
            "best_of_n:n=2,strategy=(cfg:guidance_scale=2.0,strategy=(sampling:preset=hf))",
        ),
        ({"dola_layers": "high", "repetition_penalty": 1.2}, DOLA),
        ({"dola_layers": [1, 3], "do_sample": True}, "dola:layers=[1,3],strategy=(sampling:preset=hf)"),
        ({"token_healing": True}, "token_healing:num_tokens=1"),
        (
            {"token_healing": True, "num_beams": 2, "force_words_ids": [[3, 4], [[5]]]},
            "token_healing:strategy=(constrained_beam:phrases=[[3,4],[5]],num_beams=2),num_tokens=1",
        ),
        ({"watermarking_config": {"bias": 1.5}}, "greedy:processors=(kgw_watermark_hf:bias=1.5)"),
        (
            {"watermarking_config": {"ngram_len": 3, "keys": [5, 6]}, "do_sample": True, "min_new_tokens": 2},
            "sampling:processors=(min_new_tokens:count=2|top_k:k=50,ties=keep|"
            "synthid_watermark_hf:keys=[5,6],ngram_len=3)",
        ),
        ({"num_beams": 2, "penalty_alpha": 0.6, "prompt_lookup_num_tokens": 3}, "beam:num_beams=2"),
        ({"temperature": 0.3, "top_p": 0.5, "length_penalty": 2.0, "use_cache": False}, "greedy"),
    ],
)
def test_the_strategy_is_the_one_that_transformers_chooses(config: dict[str, Any], strategy: str | None) -> None:
    chosen = from_generation_config(config)["strategy"]
    expected = strategy or ("contrastive_search:penalty_alpha=0.5,top_k=50,processors=(repetition:penalty=1.2)")
    assert od.parse(str(chosen)) == od.parse(expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"constraints": [1]}, "`constraints` of a generation configuration must be left out: .*force_words_ids"),
        ({"watermarking_config": {"keys": [1], "ngram_len": 3}, "num_beams": 2}, "`watermarking_config`.*green-list"),
        ({"watermarking_config": {"keys": [1], "ngram_len": 3, "debug_mode": True}}, "without debug_mode"),
        ({"dola_layers": "low", "guidance_scale": 2.0}, "`dola_layers`.*left out with guidance_scale"),
        ({"force_words_ids": [[1]]}, "`num_beams`.*at least 2 with force_words_ids; got 1"),
        ({"force_words_ids": [[1]], "num_beams": 2, "do_sample": True}, "`do_sample`.*left out with force_words_ids"),
        ({"force_words_ids": [[[1], [2]]], "num_beams": 2}, "`force_words_ids`.*of which one is enough"),
        ({"forced_bos_token_id": 1, "begin_suppress_tokens": [2]}, "`forced_bos_token_id`.*begin_suppress_tokens"),
        ({"forced_bos_token_id": 1, "num_beams": 2}, "`forced_bos_token_id`.*num_beams"),
        ({"remove_invalid_values": True}, "`remove_invalid_values`"),
        ({"num_return_sequences": 3}, "`num_return_sequences`.* 1 without beams or do_sample.* got 3"),
        ({"num_beams": 2, "forced_eos_token_id": 1}, "`forced_eos_token_id`.*num_beams"),
        ({"num_beams": 2, "guidance_scale": 2.0}, "`guidance_scale`.*num_beams"),
        ({"num_beams": 2, "renormalize_logits": True}, "`renormalize_logits`.*num_beams"),
        ({"num_beams": 2, "do_sample": True}, "`eos_token_id`.*beams are sampled"),
        ({"num_beams": 2, "do_sample": True, "eos_token_id": 1, "typical_p": 0.5}, "`typical_p`"),
        ({"forced_eos_token_id": [1, 2]}, "`forced_eos_token_id`.*one token"),
        ({"do_sample": True, "temperature": 0.0}, "`temperature`"),
        (5, "`config` must be a GenerationConfig"),
        ("no/such/folder", "`config` must be a `generation_config.json`.*no/such/folder"),
    ],
)
def test_what_cannot_be_honoured_is_named(config: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_generation_config(config)


def test_a_field_that_does_not_exist_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"`temprature`; did you mean `temperature`"):
        from_generation_config({"temprature": 0.5})


def test_what_is_refused_may_be_switched_off() -> None:
    config = {"remove_invalid_values": False, "token_healing": False, "constraints": None, "bad_words_ids": []}
    assert from_generation_config(config)["strategy"] == od.Greedy()


def test_several_samples_are_independent_draws() -> None:
    """They were refused once, though `do_sample` with `num_return_sequences` is what many configurations say."""
    table = Model(TableRunner({(): np.log([0.75, 0.25])}))
    options = from_generation_config({"do_sample": True, "num_return_sequences": 2, "max_new_tokens": 1})
    (generation,) = od.run([Task(table, [0], **options)])
    assert [len(each.tokens) for each in generation.alternatives] == [1, 1]
    found = distribution(options["strategy"], table, [0], max_new_tokens=1)
    assert found == pytest.approx({(0,): 15 / 16, (1,): 1 / 16})  # the more probable token, unless both draws fail it


def test_contrastive_search_and_guidance_run() -> None:
    rows = {(): [1.0, 0.5, 0.0]}
    table = Model(TableRunner(rows, hidden=lambda tokens: [[1, 0], [0, 1], [1, 1]][tokens[-1]]))
    for config in ({"penalty_alpha": 0.6, "top_k": 2}, {"guidance_scale": 1.5}, {"num_beams": 2, "num_beam_groups": 2}):
        options = from_generation_config({**config, "max_new_tokens": 3})
        assert len(table.generate([0], **options).tokens) == 3


def test_the_configuration_of_a_real_model(model: Model, smollm2_folder: ModelFolder) -> None:
    generation = model.generate("The capital of France is", **from_generation_config(smollm2_folder.path))
    assert generation.tokens == model.generate("The capital of France is", max_new_tokens=20).tokens
