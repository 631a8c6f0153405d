"""What makes a result another one: digests of a model's files and versions of methods."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ovdecode.models.atomic import sha256_of
from ovdecode.models.tokenizer import FolderTokenizer
from ovdecode.plugin import Plugin
from ovdecode.plugin_code import code_digest, source_of

if TYPE_CHECKING:
    from ovdecode.model import Model
    from ovdecode.models.folder import ModelFolder

_CONVERSION_NOTE = "ovdecode.json"


def folder_digest(folder: ModelFolder) -> str:
    """A digest of what is in a model folder and decides what the model says: the same wherever it lies.

    All of the weights are read: an edit of one matrix is another model. That takes about as long as loading them.
    """
    files = [folder.xml, folder.xml.with_suffix(".bin")]
    files += [file for file in folder.path.iterdir() if file.suffix in (".json", ".jinja")]
    contents = sorted(
        (file.name, sha256_of(file)) for file in files if file.is_file() and file.name != _CONVERSION_NOTE
    )
    return digest(contents)


def model_digest(model: Model) -> str:
    """The digest of a loaded model's folder; of a model that came from none, its name."""
    tokenizer = model.tokenizer
    return folder_digest(tokenizer.folder) if isinstance(tokenizer, FolderTokenizer) else f"named {model.name}"


def method_version(plugin: Plugin) -> str:
    """The version of a plugin and of all that it is made of: ovdecode's, and a digest of every foreign source file.

    A method that somebody edits between two runs is another method; what its file imports is not looked at. A file
    counts as it was when its plugin was loaded; for a plugin of a notebook, the code itself counts.
    """
    foreign = {_source(type(part)) for part in _parts(plugin)} - {""}
    return "+".join([version("ovdecode"), *sorted(foreign)])


def digest(value: Any) -> str:
    """A short digest of a JSON value."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _parts(value: Any) -> Iterator[Plugin]:
    if isinstance(value, Plugin):
        yield value
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)


def _source(kind: type) -> str:
    if kind.__module__.partition(".")[0] == "ovdecode":
        return ""
    source = source_of(kind)
    return code_digest(kind)[:12] if source is None else digest(source)[:12]
