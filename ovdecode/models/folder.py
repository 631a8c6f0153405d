"""An OpenVINO model folder: what is in it, checked before anything heavy is loaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovdecode.errors import ModelError
from ovdecode.plugin import is_whole

MODEL_FILE = "openvino_model.xml"

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx", "seq_length")
_DATA = re.compile(r"<data [^>]*?\boffset=\"(\d+)\"[^>]*?\bsize=\"(\d+)\"")
_EOS_IN_TOKENIZER = re.compile(r'<eos_token_id value="(\d+)"')


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder and what its configuration files say.

    Attributes:
        path: The folder.
        xml: The model's graph; its weights are the `.bin` beside it.
        name: What to call the model in tables.
        eos_token_ids: The ids that end a text, of `generation_config.json`, then of `config.json`.
        context_length: The longest sequence in tokens, if the configuration tells.
        vocab_size: The number of logits, if the configuration tells.
    """

    path: Path
    xml: Path
    name: str
    eos_token_ids: tuple[int, ...] = ()
    context_length: int | None = None
    vocab_size: int | None = None


def read_folder(path: Path, *, xml: Path | None = None, name: str | None = None) -> ModelFolder:
    """Check the OpenVINO model folder `path` and read its configuration.

    Args:
        path: The folder.
        xml: The graph, if it is not `openvino_model.xml`.
        name: The model's name; by default the folder's.

    Raises:
        ModelError: The folder or a file of it is missing, empty or corrupt, or says what can't be.
    """
    _check_contents(path, xml or path / MODEL_FILE)
    xml = xml or path / MODEL_FILE
    _check_model(xml)
    config = read_json(path / "config.json")
    text_config = config.get("text_config") or {}
    if not isinstance(text_config, dict):
        raise _unlike(path / "config.json", "text_config", "an object", text_config)
    config.update(text_config)
    vocab_size = _count(path / "config.json", config, "vocab_size")
    generation = read_json(path / "generation_config.json")
    eos = _eos(path / "generation_config.json", generation, vocab_size)
    eos += _eos(path / "config.json", config, vocab_size)
    return ModelFolder(
        path=path,
        xml=xml,
        name=name or path.resolve().name,
        eos_token_ids=tuple(dict.fromkeys(eos)) or _eos_of_tokenizer(path),
        context_length=next(
            (_count(path / "config.json", config, key) for key in _CONTEXT_KEYS if config.get(key)), None
        ),
        vocab_size=vocab_size,
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or an empty one if there is no such file.

    Raises:
        ModelError: The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"`{path}` must be a JSON file, but: {error}. Download or export the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"`{path}` must hold a JSON object, but it holds a {type(content).__name__}.")
    return content


def export_command(model: str = "org/name", folder: str = "folder") -> str:
    """The command that turns an original model into an OpenVINO model folder, and where it comes from."""
    command = f"optimum-cli export openvino --model {model} {folder}"
    return f"{command} (the command comes with: pip install 'ovdecode[export]')"


def _check_contents(path: Path, xml: Path) -> None:
    if not path.exists():
        raise ModelError(f"`{path}` must be an OpenVINO model folder, but there is no such folder. Check the path.")
    if not path.is_dir():
        raise ModelError(f"`{path}` must be an OpenVINO model folder, but it is a file. Give the folder it is in.")
    if xml.is_file():
        return
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if not names:
        raise ModelError(
            f"`{path}` must be an OpenVINO model folder, but it is empty. An interrupted export or download "
            "leaves such a folder: run it again."
        )
    others = [name for name in names if name.endswith(".xml") and "tokenizer" not in name]
    ggufs = [name for name in names if name.endswith(".gguf")]
    if others:
        fix = f"If `{others[0]}` is the model, give its path: {path / others[0]}"
    elif ggufs:
        fix = f"To use the GGUF file, give its path: {path / ggufs[0]}"
    elif any(name.endswith((".safetensors", "pytorch_model.bin")) for name in names):
        fix = f"It looks like a Hugging Face model. Export it: {export_command(str(path), f'{path}-openvino')}"
    else:
        fix = "Check the path."
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    raise ModelError(f"`{path}` must hold `{xml.name}`, but it holds only {listed}. {fix}")


def _check_model(xml: Path) -> None:
    """The graph must be whole, and the weights as long as the graph says."""
    graph = xml.read_text(encoding="utf-8", errors="replace")
    if "<net" not in graph[:1000] or not graph.rstrip().endswith("</net>"):
        what = "is empty" if not graph.strip() else "is cut short or something else"
        raise ModelError(
            f"`{xml}` must be an OpenVINO model (a whole `<net>` element), but it {what}. Download, export "
            "or convert the model again."
        )
    needed = max((int(offset) + int(size) for offset, size in _DATA.findall(graph)), default=0)
    weights = xml.with_suffix(".bin")
    found = weights.stat().st_size if weights.is_file() else None
    if needed and found is None:
        raise ModelError(f"`{weights}` must hold the model's weights, but it is missing. Copy it beside `{xml.name}`.")
    if found is not None and found < needed:
        raise ModelError(
            f"`{weights}` must have at least {needed} bytes, but it has {found}: it was cut short. Download, "
            "export or convert the model again."
        )


def _count(file: Path, config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is None:
        return None
    if not is_whole(value) or value < 1:
        raise _unlike(file, key, "a whole number of at least 1", value)
    return int(value)


def _eos(file: Path, config: dict[str, Any], vocab_size: int | None) -> tuple[int, ...]:
    value = config.get("eos_token_id")
    tokens = value if isinstance(value, list) else [] if value is None else [value]
    if not all(is_whole(token) and token >= 0 and (vocab_size is None or token < vocab_size) for token in tokens):
        known = "whole numbers of at least 0" if vocab_size is None else f"between 0 and {vocab_size - 1}"
        raise _unlike(file, "eos_token_id", f"token ids, {known}", value)
    return tuple(tokens)


def _unlike(file: Path, key: str, requirement: str, value: Any) -> ModelError:
    return ModelError(
        f"`{key}` in `{file}` must be {requirement}, but it is {value!r:.80}. Correct it, or download or export the "
        "model again."
    )


def _eos_of_tokenizer(path: Path) -> tuple[int, ...]:
    """The EOS id that an OpenVINO tokenizer carries, for folders without configuration files."""
    try:
        graph = (path / "openvino_tokenizer.xml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    found = _EOS_IN_TOKENIZER.search(graph)
    return (int(found[1]),) if found else ()
