"""The fields of transformers' generation configurations: which are honoured, refused, or without an effect here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ovdecode.errors import ConfigurationError
from ovdecode.registry import unknown

Fields = dict[str, Any]

DEFAULTS: Fields = {
    **{"max_length": None, "max_new_tokens": None, "max_time": None, "stop_strings": None, "eos_token_id": None},
    **{"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "early_stopping": False, "length_penalty": 1.0},
    **{"num_beam_groups": 1, "diversity_penalty": 0.0, "penalty_alpha": None, "guidance_scale": None},
    **{"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": None, "top_h": None, "typical_p": 1.0},
    **{"epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "renormalize_logits": False},
    **{"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "sequence_bias": None, "bad_words_ids": None},
    **{"no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": None},
    **{"forced_eos_token_id": None, "exponential_decay_length_penalty": None},
    **{"suppress_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None},
    **{"watermarking_config": None, "dola_layers": None, "token_healing": False, "force_words_ids": None},
    **{"prompt_lookup_num_tokens": None, "max_matching_ngram_size": 2, "assistant_early_exit": None},
    **{"num_assistant_tokens": 20, "assistant_confidence_threshold": 0.4},
}
"""The fields that are honoured, and what transformers takes where they are not given."""

REFUSED: Mapping[str, str] = {
    "constraints": "transformers 5 has no such objects any more; `force_words_ids` has phrases that must appear",
    "remove_invalid_values": "logits of NaN are an error",
    "use_mtp": "models with several heads are unknown",
    "speculation_type": "it needs an assistant of its own; the strategy `speculative` drafts",
    "assistant_ensemble_weight": "speculation keeps the law of the model",
    "is_assistant": "the proposer `draft_model` drafts",
}
"""The fields that change what is decoded and can't be honoured, with what to do instead."""

WITHOUT_EFFECT = frozenset(
    {
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "low_memory", "prefill_chunk_size"),
        *("compile_config", "disable_compile", "continuous_batching_config", "transformers_version"),
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
        *("pad_token_id", "bos_token_id", "decoder_start_token_id"),
        *("num_assistant_tokens_schedule", "assistant_lookbehind", "target_lookbehind"),
    }
)
"""The fields that say how it is computed or shown, or that take an assistant or an encoder to mean something."""


def read_fields(config: Any) -> Fields:
    """Every honoured field with its value, after a look at all others.

    Args:
        config: a configuration object, a mapping, or a path.

    Raises:
        ConfigurationError: for a field that can't be honoured, or what is no configuration.
        UnknownNameError: for a field that transformers does not have.
    """
    if isinstance(config, str | Path):
        config = _read(Path(config))
    if not isinstance(config, Mapping) and hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"`config` must be a GenerationConfig, a mapping of its fields, or the path of one, got {config!r:.80}"
        )
    given = {name: value for name, value in config.items() if value is not None and not name.startswith("_")}
    for name, value in given.items():
        if name in REFUSED:
            if value is not False:
                raise refused(name, value, f"left out: {REFUSED[name]}")
        elif name not in DEFAULTS and name not in WITHOUT_EFFECT:
            raise unknown("field of a generation configuration:", name, {*DEFAULTS, *WITHOUT_EFFECT, *REFUSED})
    if "max_length" not in given:
        given.setdefault("max_new_tokens", 20)
    return {**DEFAULTS, **given}


def _read(path: Path) -> Any:
    file = path / "generation_config.json" if path.is_dir() else path
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`config` must be a `generation_config.json`, or a folder with one, but {file} is not: {error}"
        ) from error


def refused(name: str, value: Any, requirement: str) -> ConfigurationError:
    """The error for a field that can't be honoured."""
    return ConfigurationError(f"`{name}` of a generation configuration must be {requirement}; got {value!r:.80}")


def token_ids(value: Any) -> list[int]:
    """A field of one token or several, as a list; empty if it is not given."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) else [value]
