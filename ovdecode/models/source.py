"""From what a user names to a model folder: a folder, a GGUF file, a hub id, or the default model."""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path

from ovdecode.errors import ModelError
from ovdecode.models.atomic import sha256_of
from ovdecode.models.fetch import GGUF_SHA256, fetch_smollm2
from ovdecode.models.folder import ModelFolder, read_folder
from ovdecode.models.from_gguf import Weights, convert_gguf, is_converted
from ovdecode.models.hub import fetch_hub

DEFAULT_MODEL = "smollm2"
CACHE_VARIABLE = "OVDECODE_CACHE"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def cache_folder() -> Path:
    """Where downloaded and converted models are kept: `OVDECODE_CACHE`, or the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("ovdecode")


def locate(
    source: str | Path = DEFAULT_MODEL, *, weights: Weights = "int8", progress: bool | None = None
) -> ModelFolder:
    """The model folder that `source` names, downloaded and converted first if need be.

    Args:
        source: An OpenVINO model folder (or the `.xml` in it), a `.gguf` file, the id of an OpenVINO
            repository on the Hugging Face hub, or `smollm2`. A folder of that very name is `./smollm2`.
        weights: How the weights of a GGUF file are stored: `int8` or `f16`.
        progress: Show progress on standard error; by default only if it is a terminal.

    Raises:
        ModelError: Nothing is there, or what is there is broken; the message says what to do.
    """
    if not isinstance(source, str | os.PathLike):
        raise ModelError(
            f"`source` must be a name or a path, got {source!r:.80}. The default model is `{DEFAULT_MODEL}`."
        )
    progress = sys.stderr.isatty() if progress is None else progress
    if source == DEFAULT_MODEL:
        return _default_model(weights, progress)
    if not str(source):
        raise ModelError(f"`source` must name a model, but it is empty. The default model is `{DEFAULT_MODEL}`.")
    path = Path(source).expanduser()
    if os.path.isdir(path):  # unlike those of `Path`, these two take what can be no path for a path of nothing
        return read_folder(path)
    if os.path.isfile(path):
        return _from_file(path, weights, progress)
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and path.suffix not in (".gguf", ".xml"):
        return read_folder(fetch_hub(source, progress), name=source)
    raise _nothing_there(source, path)


def _default_model(weights: Weights, progress: bool) -> ModelFolder:
    target = cache_folder() / "models" / f"{DEFAULT_MODEL}-{weights}"
    if not is_converted(target, GGUF_SHA256, weights):
        source = fetch_smollm2(cache_folder(), progress)
        _convert(source, target, weights, progress, GGUF_SHA256)
    return read_folder(target, name=DEFAULT_MODEL)


def _from_file(path: Path, weights: Weights, progress: bool) -> ModelFolder:
    if path.suffix == ".gguf":
        digest = sha256_of(path)
        target = cache_folder() / "models" / f"{path.stem}-{digest[:16]}-{weights}"
        _convert(path, target, weights, progress, digest)
        return read_folder(target, name=path.stem)
    if path.suffix == ".xml":
        return read_folder(path.parent, xml=path)
    raise ModelError(
        f"`{path}` must be an OpenVINO model folder, an `.xml` or a `.gguf` file, but it is another file. "
        "Give the folder that holds `openvino_model.xml`."
    )


def _convert(source: Path, target: Path, weights: Weights, progress: bool, digest: str) -> None:
    if progress and not is_converted(target, digest, weights):
        print(f"Converting {source.name} to OpenVINO ({weights}); this happens once.", file=sys.stderr)
    convert_gguf(source, target, weights, digest=digest)


def _nothing_there(source: str | Path, path: Path) -> ModelError:
    beside = os.listdir(path.parent) if os.path.isdir(path.parent) else []
    near = difflib.get_close_matches(path.name.lower(), [DEFAULT_MODEL, *beside], n=1)
    if near and near[0] == DEFAULT_MODEL:
        fix = f"Did you mean `{DEFAULT_MODEL}`?"
    elif near:
        fix = f"Did you mean `{path.parent / near[0]}`?"
    else:
        fix = f"Check the path; the default model is `{DEFAULT_MODEL}`."
    return ModelError(
        f"`{source!s:.200}` must be an OpenVINO model folder, a GGUF file, a hub id `organisation/name` or "
        f"`{DEFAULT_MODEL}`, but there is nothing of that name. {fix}"
    )
