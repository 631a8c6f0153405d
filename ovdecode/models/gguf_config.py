"""A GGUF file's metadata as the configuration files of a Hugging Face model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovdecode.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFReader

_FIELDS = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def read_metadata(source: Path) -> tuple[GGUFReader, dict[str, Any]]:
    """The reader of a GGUF file, and its metadata as a dictionary.

    Raises:
        ModelError: The file is cut short or damaged.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(source)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    except Exception as error:  # a damaged file makes the reader fail in as many ways as it has lines
        raise ModelError(
            f"`{source}` must be a whole GGUF file, but it cannot be read ({type(error).__name__}: {error}). "
            "It was probably cut short: download it again."
        ) from error
    return reader, metadata


def write_configs(metadata: dict[str, Any], reader: GGUFReader, folder: Path) -> None:
    """Write `config.json` and `generation_config.json`."""
    architecture = metadata["general.architecture"]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config: dict[str, Any] = {"architectures": [_CLASSES[architecture]], "model_type": architecture}
    for name, key in _FIELDS.items():
        if (value := metadata.get(f"{architecture}.{key}")) is not None:
            config[name] = value
    config["vocab_size"] = int(tensors["token_embd.weight"].shape[1])
    config["tie_word_embeddings"] = "output.weight" not in tensors
    ids = _special_ids(metadata)
    _write(folder / "config.json", {**config, **ids})
    _write(folder / "generation_config.json", ids)


def _special_ids(metadata: dict[str, Any]) -> dict[str, Any]:
    """The BOS and padding ids, and every id that the file says ends a text, a turn or a message."""
    ends = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    eos = list(dict.fromkeys(token for token in ends if token is not None))
    ids = {
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
    }
    return {name: value for name, value in ids.items() if value is not None}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
