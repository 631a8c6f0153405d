"""A GGUF file as an OpenVINO model folder: the dequantised weights, stored again in 8 or 16 bits."""

from __future__ import annotations

import json
import re
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ovdecode.errors import ConfigurationError, ModelError
from ovdecode.extras import from_extra
from ovdecode.models.atomic import exclusive, publish_folder, scratch_beside, sha256_of
from ovdecode.models.folder import export_command
from ovdecode.models.gguf_config import read_metadata, write_configs
from ovdecode.models.gguf_tokenizer import (
    build_tokenizer,
    write_hugging_face_files,
    write_openvino_tokenizers,
)

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor

Weights = Literal["int8", "f16"]

SCHEME = 1
"""The number of this conversion's rules; a folder made under another number is made anew."""

MARKER = "ovdecode.json"

FILES = frozenset(
    [f"openvino_{part}.{end}" for part in ("model", "tokenizer", "detokenizer") for end in ("xml", "bin")]
    + ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"]
)
"""What a conversion writes, beside its marker."""

_FILE_TYPES = {"int8": 7, "f16": 1}  # of `general.file_type`: mostly Q8_0, mostly F16
_KNOWN_TENSORS = re.compile(
    r"(token_embd|output_norm|output|blk\.\d+\.(attn_norm|ffn_norm|attn_(q|k|v|output|q_norm|k_norm)"
    r"|ffn_(gate|up|down)))\.(weight|bias)"
)


def convert_gguf(source: Path, target: Path, weights: Weights = "int8", *, digest: str | None = None) -> Path:
    """Convert a GGUF file into the OpenVINO model folder `target`, unless it is there; return `target`.

    Every weight is dequantised and stored again as 8-bit blocks with one scale for 32 values (`int8`) or as
    float16 (`f16`), because OpenVINO GenAI's own reading of some 4-bit types is wrong. The folder holds the
    model, both OpenVINO tokenizer models, the Hugging Face tokenizer files and configurations, and
    `ovdecode.json`.

    It appears whole or not at all. Two processes may call this at once: the second waits, then finds the
    folder.

    Args:
        source: The GGUF file.
        target: The folder to make. If it exists it must be empty or an earlier conversion.
        weights: How weights are stored. `int8` moves the logits by a mean KL of about 0.002.
        digest: The SHA-256 of `source`, if it is known already.

    Raises:
        ModelError: The file is no GGUF or is cut short, or its kind cannot be converted faithfully.
        ConfigurationError: `weights` is unknown, `target` holds something else, or a package is missing.
    """
    if weights not in _FILE_TYPES:
        raise ConfigurationError(f"`weights` must be `int8` or `f16`, but it is `{weights}`.")
    _check_source(source)
    digest = digest or sha256_of(source)
    if is_converted(target, digest, weights):
        return target
    with exclusive(target):
        if is_converted(target, digest, weights):
            return target
        if target.exists() and any(target.iterdir()) and not (target / MARKER).is_file():
            raise ConfigurationError(
                f"`{target}` must be empty or an earlier conversion, but it holds other files. Name another folder."
            )
        with scratch_beside(target) as scratch:
            folder = scratch / "model"
            folder.mkdir()
            _convert(source, folder, weights)
            _write_marker(folder, source.name, digest, weights)
            publish_folder(folder, target)
    return target


def is_converted(target: Path, digest: str, weights: Weights) -> bool:
    """Whether `target` is a finished conversion of that file to those weights by the rules of today."""
    try:
        marker = json.loads((target / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(marker, dict):
        return False
    wanted = {"scheme": SCHEME, "sha256": digest, "weights": weights, "files": _sizes(target)}
    return all(marker.get(key) == value for key, value in wanted.items())


def _sizes(folder: Path) -> dict[str, int]:
    """The size of every file of a conversion; a file lost or cut short later shows in it."""
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name in FILES}


def _check_source(source: Path) -> None:
    if not source.is_file():
        raise ModelError(f"`{source}` must be a GGUF file, but there is no such file. Check the path.")
    with source.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise ModelError(
            f"`{source}` must be a GGUF file, but it begins with {magic!r} instead of b'GGUF'. If it is a "
            "Git LFS pointer or an error page, download the real file."
        )


def _convert(source: Path, folder: Path, weights: Weights) -> None:
    from_extra("gguf", "gguf", f"the conversion of `{source.name}`")
    openvino_genai = from_extra("gguf", "openvino_genai", f"the conversion of `{source.name}`")
    reader, metadata = read_metadata(source)
    _check_faithful(source, metadata, reader)
    build_tokenizer(metadata)  # a vocabulary that cannot be rebuilt is an error now, not after the long part
    plain = folder / "plain.gguf"
    _write_plain(reader, metadata, plain, weights)
    try:
        openvino_genai.LLMPipeline(str(plain), "CPU", enable_save_ov_model=True)
    except RuntimeError as error:
        raise ModelError(f"`{source.name}` could not be converted; OpenVINO GenAI said: {error}") from error
    plain.unlink()
    for theirs in folder.glob("openvino_*tokenizer.*"):
        theirs.unlink()
    write_configs(metadata, reader, folder)
    write_hugging_face_files(metadata, folder, metadata.get(f"{metadata['general.architecture']}.context_length"))
    write_openvino_tokenizers(folder)


def _check_faithful(source: Path, metadata: dict[str, Any], reader: GGUFReader) -> None:
    """Refuse what OpenVINO GenAI's reader would leave out without a word."""
    architecture = metadata.get("general.architecture")
    instead = f"Export the original model instead: {export_command()}"
    if architecture not in ("llama", "qwen2", "qwen3"):
        raise ModelError(
            f"`{source.name}` must be of the architecture llama, qwen2 or qwen3, but it is `{architecture}`. {instead}"
        )
    unknown = [tensor.name for tensor in reader.tensors if not _KNOWN_TENSORS.fullmatch(tensor.name)]
    if unknown:
        raise ModelError(
            f"`{source.name}` must hold only the tensors of a plain decoder, but it also holds "
            f"`{unknown[0]}` ({len(unknown)} such), which would be left out of the model. {instead}"
        )
    if metadata.get("split.count", 1) > 1:
        raise ModelError(
            f"`{source.name}` must be a whole model, but it is one of {metadata['split.count']} parts. Join "
            "them with llama.cpp's tool first: llama-gguf-split --merge first-part.gguf whole.gguf"
        )
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none":
        raise ModelError(
            f"`{architecture}.rope.scaling.type` must be `none`, but it is `{scaling}`, which would be left "
            f"out of the model. {instead}"
        )


def _write_plain(reader: GGUFReader, metadata: dict[str, Any], path: Path, weights: Weights) -> None:
    """Write the same model with plain tensor types only, one tensor in memory at a time."""
    from gguf import GGUFValueType, GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape

    writer = GGUFWriter(path, metadata["general.architecture"])
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, metadata[key], kind, inner)
    writer.add_file_type(_FILE_TYPES[weights])
    for tensor in reader.tensors:
        plain, dtype = _plain_type(tensor, weights)
        shape = quant_shape_to_byte_shape([int(size) for size in reversed(tensor.shape)], plain)
        size = 1
        for length in shape:
            size *= length
        if dtype.itemsize > 1:
            shape = (*shape[:-1], shape[-1] // dtype.itemsize)
        writer.add_tensor_info(tensor.name, shape, dtype, size, raw_dtype=plain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        writer.write_tensor_data(_plain_values(tensor, weights))
    writer.close()


def _plain_type(tensor: ReaderTensor, weights: Weights) -> tuple[GGMLQuantizationType, np.dtype[Any]]:
    """Vectors (norms, biases) stay float32; a matrix whose rows do not fill blocks of 32 stays float16."""
    import numpy as np
    from gguf import GGMLQuantizationType

    if len(tensor.shape) == 1:
        return GGMLQuantizationType.F32, np.dtype(np.float32)
    if weights == "f16" or tensor.shape[0] % 32:
        return GGMLQuantizationType.F16, np.dtype(np.float16)
    return GGMLQuantizationType.Q8_0, np.dtype(np.uint8)


def _plain_values(tensor: ReaderTensor, weights: Weights) -> np.ndarray[Any, Any]:
    import numpy as np
    from gguf.quants import dequantize, quantize

    values = dequantize(tensor.data, tensor.tensor_type)
    plain, dtype = _plain_type(tensor, weights)
    if not np.isfinite(values).all() or (dtype == np.float16 and np.abs(values).max() > np.finfo(np.float16).max):
        raise ModelError(
            f"`{tensor.name}` must hold finite numbers that fit {weights}, but it does not. The file is "
            "damaged, or the model needs a wider type."
        )
    return quantize(np.ascontiguousarray(values), plain)


def _write_marker(folder: Path, source: str, digest: str, weights: Weights) -> None:
    names = ("openvino", "openvino-genai", "openvino-tokenizers", "gguf", "transformers")
    versions = {name: packages.version(name) for name in names}
    marker = {
        "scheme": SCHEME,
        "source": source,
        "sha256": digest,
        "weights": weights,
        "files": _sizes(folder),
        "versions": versions,
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=2), encoding="utf-8")
