"""The tokenizer inside a GGUF file, as Hugging Face files and as OpenVINO models that agree id for id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovdecode.errors import ModelError
from ovdecode.models.folder import export_command
from ovdecode.models.huggingface_tokenizer import auto_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
_ANY_CASE = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SYMBOLS_AND_SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

GPT2 = rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
# llama.cpp splits off each digit first and applies GPT2 to what lies between. In one expression: white space
# before a digit then ends a piece, so it stays together. (OpenVINO Tokenizers 2026.4 fuses the two steps and
# forgets that.)
DIGITS = rf"{_CONTRACTIONS}| ?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?=\p{{N}})|\s+(?!\S)|\s+"
LLAMA3 = rf"{_ANY_CASE}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_SYMBOLS_AND_SPACES}"
QWEN2 = rf"{_ANY_CASE}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_SYMBOLS_AND_SPACES}"


@dataclass(frozen=True)
class PreTokenizer:
    """How llama.cpp cuts text into pieces before the merges, for one family of names.

    Attributes:
        pattern: The regular expression of a piece.
        ignore_merges: A piece that is a token is taken whole, whatever the merges say.
        add_bos: A text begins with the BOS token unless the file says otherwise.
    """

    pattern: str
    ignore_merges: bool = False
    add_bos: bool = False


PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "trillion", "exaone4"), PreTokenizer(GPT2)),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        PreTokenizer(DIGITS),
    ),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "lfm2"), PreTokenizer(LLAMA3, True, True)
    ),
    **dict.fromkeys(("smaug-bpe", "dbrx"), PreTokenizer(LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"), PreTokenizer(QWEN2)),
}
"""By the value of `tokenizer.ggml.pre`; the names and their meaning are llama.cpp's (`llama-vocab.cpp`)."""

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # of `tokenizer.ggml.token_type`

PROBES = (
    "The quick brown fox, isn't it? I'M SURE they'll say \"no\".",
    "  two  spaces\t\ttabs\n\n\nlines \n end   ",
    "1234567 3.14 in 2026:  9 a1b2 ½ ²³ ١٢٣",
    "def f(x):\n    return x ** 2  # [ok]\r\n\tpass\r\n",
    "Café naïve e\u0301 — Привет, 日本語のテキスト हिन्दी مرحبا",
    "😀👍🏽👩\u200d👩\u200d👧 \u00a0\u3000\u2028x\x00\x04y",
)
"""Texts on which both tokenizers must give the same ids before a conversion counts as done."""


def build_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The `tokenizers.Tokenizer` that a GGUF file's metadata describes.

    Raises:
        ModelError: The vocabulary is not byte-level BPE, or its pre-tokeniser is not one of `PRE_TOKENIZERS`.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    family = _family(metadata)
    entries: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {entry: token for token, entry in enumerate(entries)}
    if len(vocabulary) != len(entries):
        raise ModelError(
            f"`tokenizer.ggml.tokens` must name each token once, but {len(entries) - len(vocabulary)} names "
            "repeat. The file is damaged, or its converter was: use another GGUF of the same model."
        )
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=family.ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(family.pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    for entry, kind in zip(entries, kinds, strict=False):
        if kind in (_UNKNOWN, _CONTROL):
            tokenizer.add_special_tokens([AddedToken(entry, special=True, normalized=False)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(entry, special=False, normalized=False)])
    _add_bos_and_eos(tokenizer, metadata, family)
    return tokenizer


def _family(metadata: Mapping[str, Any]) -> PreTokenizer:
    model, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise ModelError(
            "`tokenizer.ggml.model` must be `gpt2` (byte-level BPE) to be rebuilt from a GGUF file, but it "
            f"is `{model}`. Export the original model instead: {export_command()}"
        )
    if pre not in PRE_TOKENIZERS:
        raise ModelError(
            f"`tokenizer.ggml.pre` must be one of {', '.join(sorted(PRE_TOKENIZERS))}, but it is `{pre}`. "
            f"Guessing would give wrong ids. Export the original model instead: {export_command()}"
        )
    return PRE_TOKENIZERS[pre]


def _add_bos_and_eos(tokenizer: Tokenizer, metadata: Mapping[str, Any], family: PreTokenizer) -> None:
    from tokenizers import processors

    names = special_names(metadata)
    bos = names.get("bos_token") if metadata.get("tokenizer.ggml.add_bos_token", family.add_bos) else None
    eos = names.get("eos_token") if metadata.get("tokenizer.ggml.add_eos_token", False) else None
    ends = [(name, tokenizer.token_to_id(name)) for name in (bos, eos) if name is not None]
    if ends:
        template = " ".join([*([bos] if bos else []), "$A", *([eos] if eos else [])])
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)


def special_names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The literals of the BOS, EOS, unknown and padding tokens, under Hugging Face's names."""
    entries = metadata["tokenizer.ggml.tokens"]
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in keys.items()}
    return {name: entries[token] for name, token in ids.items() if token is not None and token < len(entries)}


def write_hugging_face_files(metadata: Mapping[str, Any], folder: Path, context_length: int | None) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`: all that `AutoTokenizer` needs."""
    build_tokenizer(metadata).save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **special_names(metadata)}
    config["clean_up_tokenization_spaces"] = False
    if context_length is not None:
        config["model_max_length"] = context_length
    if template := metadata.get("tokenizer.chat_template"):
        config["chat_template"] = template
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def write_openvino_tokenizers(folder: Path) -> None:
    """Write `openvino_tokenizer.xml` and `openvino_detokenizer.xml` from the Hugging Face files in `folder`.

    The pair that OpenVINO GenAI writes for a GGUF file is not used: it cuts texts at the context length
    without a word, and reads bytes that have no token as the unknown token where llama.cpp drops them.

    Raises:
        ModelError: The two tokenizers disagree on one of `PROBES`.
    """
    import openvino
    from openvino_tokenizers import convert_tokenizer

    original = auto_tokenizer().from_pretrained(folder)
    tokenizer, detokenizer = convert_tokenizer(original, with_detokenizer=True)
    openvino.save_model(tokenizer, folder / "openvino_tokenizer.xml", compress_to_fp16=False)
    openvino.save_model(detokenizer, folder / "openvino_detokenizer.xml", compress_to_fp16=False)
    compiled = openvino.Core().compile_model(tokenizer, "CPU")
    for probe in (*PROBES, "".join(original.all_special_tokens)):
        ours, theirs = original.encode(probe, verbose=False), compiled([probe])["input_ids"][0].tolist()
        if ours != theirs:
            raise ModelError(
                f"`openvino_tokenizer.xml` must give the ids of `tokenizer.json`, but {probe!r} gives "
                f"{theirs}, not {ours}. OpenVINO Tokenizers cannot represent this vocabulary. Export the "
                f"original model instead: {export_command()}"
            )
