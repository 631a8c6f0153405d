"""Tiny GGUF models with random weights, and what their logits must be, in plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize
from tokenizers.pre_tokenizers import ByteLevel

Array = np.ndarray[Any, Any]

MERGES = ["Ġ t", "h e", "Ġt he", "Ġ Ġ", "i n", "a b", "ab c"]
SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>"]


def entries() -> list[str]:
    """256 bytes, the results of the merges, one user-defined token, and padding up to a round number."""
    merged = [merge.replace(" ", "") for merge in MERGES]
    spelled = [*SPECIAL, *sorted(ByteLevel.alphabet()), *merged, "<tool>"]
    return spelled + [f"[PAD{index}]" for index in range(288 - len(spelled))]


def write_tiny(
    path: Path,
    *,
    kind: GGMLQuantizationType = GGMLQuantizationType.F16,
    architecture: str = "llama",
    pre: str | None = "smollm",
    vocabulary: str = "gpt2",
    extra_tensor: str | None = None,
    metadata: dict[str, str | int | bool] | None = None,
) -> Path:
    """A model of two layers, 64 wide, with two query heads and one key/value head."""
    rng = np.random.default_rng(7)
    names = entries()
    writer = GGUFWriter(path, architecture)
    writer.add_file_type(1)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_block_count(2)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(32)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(vocabulary)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(names)
    kinds = [3 if name in SPECIAL else 4 if name == "<tool>" else 5 if "PAD" in name else 1 for name in names]
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    for key, value in (metadata or {}).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)

    def add(name: str, *shape: int, scale: float = 1.0) -> None:
        values = (rng.standard_normal(shape) * scale).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def add_norm(name: str, width: int) -> None:
        writer.add_tensor(name, (1 + 0.2 * rng.standard_normal(width)).astype(np.float32))

    add("token_embd.weight", len(names), 64, scale=0.3)
    add_norm("output_norm.weight", 64)
    for layer in range(2):
        block = f"blk.{layer}."
        add_norm(block + "attn_norm.weight", 64)
        add_norm(block + "ffn_norm.weight", 64)
        for part, rows in (("attn_q", 64), ("attn_k", 32), ("attn_v", 32), ("attn_output", 64)):
            add(f"{block}{part}.weight", rows, 64, scale=0.2)
            if architecture == "qwen2" and part != "attn_output":
                add(f"{block}{part}.bias", rows, scale=0.3)
        if architecture == "qwen3":
            add_norm(block + "attn_q_norm.weight", 32)
            add_norm(block + "attn_k_norm.weight", 32)
        add(block + "ffn_gate.weight", 96, 64, scale=0.2)
        add(block + "ffn_up.weight", 96, 64, scale=0.2)
        add(block + "ffn_down.weight", 64, 96, scale=0.2)
    if extra_tensor is not None:
        add(extra_tensor, 16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def reference_logits(path: Path, tokens: list[int]) -> Array:
    """The logits of a GGUF file's dequantised float32 weights: (tokens, vocab)."""
    reader = GGUFReader(path)
    weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()

    def number(key: str) -> Any:
        return reader.fields[f"{architecture}.{key}"].contents()

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    epsilon, base = number("attention.layer_norm_rms_epsilon"), number("rope.freq_base")
    size = number("embedding_length") // heads
    count = len(tokens)

    def norm(values: Array, weight: Array) -> Array:
        scale = np.sqrt((values * values).mean(-1, keepdims=True) + np.float32(epsilon))
        return np.asarray(values / scale * weight)

    angles = np.arange(count)[:, None] * base ** (-np.arange(0, size, 2) / size)  # (tokens, size / 2)
    cosine = np.cos(angles)[:, None].astype(np.float32)
    sine = np.sin(angles)[:, None].astype(np.float32)

    def rotate(values: Array) -> Array:
        if architecture == "llama":  # GGUF keeps llama's rotated pairs side by side
            even, odd = values[..., 0::2], values[..., 1::2]
            pairs = [even * cosine - odd * sine, even * sine + odd * cosine]
            return np.asarray(np.stack(pairs, -1).reshape(values.shape))
        first, second = values[..., : size // 2], values[..., size // 2 :]
        return np.concatenate([first * cosine - second * sine, first * sine + second * cosine], -1)

    mask = np.triu(np.full((count, count), -np.inf, np.float32), 1)
    hidden = weights["token_embd.weight"][tokens]
    for layer in range(number("block_count")):

        def project(values: Array, part: str, block: str = f"blk.{layer}.") -> Array:
            return np.asarray(values @ weights[f"{block}{part}.weight"].T + weights.get(f"{block}{part}.bias", 0))

        def scale(values: Array, part: str, block: str = f"blk.{layer}.") -> Array:
            weight = weights.get(f"{block}{part}.weight")
            return values if weight is None else np.asarray(norm(values, weight))

        normed = scale(hidden, "attn_norm")
        query = project(normed, "attn_q").reshape(count, heads, size)
        key = project(normed, "attn_k").reshape(count, kv_heads, size)
        value = project(normed, "attn_v").reshape(count, kv_heads, size)
        query, key = rotate(scale(query, "attn_q_norm")), rotate(scale(key, "attn_k_norm"))
        key, value = (np.repeat(part, heads // kv_heads, axis=1) for part in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / np.float32(np.sqrt(size)) + mask
        attention = np.exp(scores - scores.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", attention, value).reshape(count, -1)
        hidden = hidden + project(mixed, "attn_output")
        normed = scale(hidden, "ffn_norm")
        gate = project(normed, "ffn_gate")
        hidden = hidden + project(gate / (1 + np.exp(-gate)) * project(normed, "ffn_up"), "ffn_down")
    hidden = norm(hidden, weights["output_norm.weight"])
    return np.asarray(hidden @ weights.get("output.weight", weights["token_embd.weight"]).T)


def model_logits(folder: Path, tokens: list[int]) -> Array:
    """The logits of an OpenVINO model folder, computed in float32 throughout: (tokens, vocab)."""
    import openvino

    exact = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    model = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", exact)
    ids = np.array([tokens], np.int64)
    inputs = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(len(tokens))[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    return np.array(model(inputs)["logits"][0])


def mean_kl(reference: Array, logits: Array) -> float:
    """The mean over positions of KL(reference || logits), in nats."""

    def logprobs(values: Array) -> Array:
        shifted = values.astype(np.float64) - values.max(-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))

    true, ours = logprobs(reference), logprobs(logits)
    return float((np.exp(true) * (true - ours)).sum(-1).mean())
