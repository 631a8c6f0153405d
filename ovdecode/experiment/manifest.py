"""What a store's folder says of itself: the current experiment, its prompts, and every run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovdecode.errors import StoreError
from ovdecode.experiment.cells import Cells, Versions
from ovdecode.experiment.environment import hardware, versions
from ovdecode.experiment.identity import digest, folder_digest, method_version, model_digest
from ovdecode.experiment.journal import BODY, encode, is_whole, process_name
from ovdecode.experiment.journal import parse as parse_line
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.spec import parse

if TYPE_CHECKING:
    from ovdecode.model import Model

FORMAT = 2
"""The number changes when an older ovdecode could not read a store, or would read it wrongly."""

MANIFEST = "manifest.json"

_KINDS = {"experiment": dict, "prompts": str, "identity": dict, "runs": list}
"""What is in a manifest besides its format."""


def versions_of(experiment: Experiment, models: Mapping[str, Model]) -> Versions:
    """What an experiment is decoded with here; of models that are loaded already, these."""
    from ovdecode.models import locate

    return Versions(
        {
            source: model_digest(models[source]) if source in models else folder_digest(locate(source))
            for source in experiment.models
        },
        {spec: method_version(parse(spec)) for spec in experiment.strategies},
        {spec: method_version(parse(spec, "metric")) for spec in experiment.metrics},
        "" if experiment.stop is None else method_version(parse(experiment.stop, "stopping")),
    )


def write_manifest(folder: Path, experiment: Experiment, prompts: list[Prompt], made_with: Versions) -> None:
    """Make this the folder's current experiment, and note where and when.

    The prompts have a file of their own, named by their digest: whoever dies between the two files breaks nothing.

    Raises:
        StoreError: if the folder holds something else, can't be written, or is of another version.
    """
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            runs = read_manifest(folder)["runs"] if (folder / MANIFEST).exists() else _none_yet(folder)
            lines = [encode(asdict(prompt)) for prompt in prompts]
            name = f"prompts-{digest([line[:BODY].decode() for line in lines])[:16]}.jsonl"
            if not (folder / name).exists():
                _replace(folder / name, b"".join(lines))
            started = datetime.now(timezone.utc).isoformat(timespec="seconds")
            run = {"started": started, "versions": versions(), "hardware": hardware()}
            current = {"experiment": experiment.plain(), "prompts": name, "identity": vars(made_with)}
            manifest = {"format": FORMAT, **current, "runs": [*runs, run]}
            _replace(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
    except OSError as error:
        raise StoreError(f"`{folder}` must be a folder that can be written, but: {error}") from error


def read_store(folder: Path) -> tuple[Experiment, list[Prompt], Versions]:
    """The current experiment of a folder, its prompts, and what it is decoded with.

    Raises:
        StoreError: if there is none, or it is of another version or damaged.
    """
    manifest = read_manifest(folder)
    prompts = _read_prompts(folder / manifest["prompts"])
    try:
        experiment, made_with = Experiment.restored(manifest["experiment"]), Versions(**manifest["identity"])
        len(Cells(experiment, prompts, made_with))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(folder / MANIFEST, repr(error)) from error
    return experiment, prompts, made_with


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of itself.

    Raises:
        StoreError: if it is no store, or one of another version, or damaged.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found = manifest["format"]
    except FileNotFoundError as error:
        raise StoreError(f"`{folder}` must be a store, but it holds no manifest.json; check the path") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(file, repr(error)) from error
    if found != FORMAT:
        raise StoreError(
            f"`{folder}` must be a store of format {FORMAT}, but it is of format {found!r:.20}, which another version "
            "of ovdecode wrote; read it with that version, or use another folder"
        )
    for name, kind in _KINDS.items():
        if not isinstance(manifest.get(name), kind):
            raise _damaged(file, f"`{name}` is {manifest.get(name)!r:.40}")
    return manifest  # type: ignore[no-any-return]


def _damaged(file: Path, why: str) -> StoreError:
    return StoreError(
        f"`{file}` must be the manifest of a store, but it can't be read: {why}; restore it from a copy, or use "
        "another folder"
    )


def _none_yet(folder: Path) -> list[Any]:
    left = (".", "prompts-")  # by one that was killed before it wrote its manifest
    others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(left))
    if others:
        raise StoreError(
            f"`{folder}` must be a store or an empty folder, but it holds {', '.join(others[:3])} and no "
            "manifest.json; choose another folder"
        )
    return []


def _read_prompts(file: Path) -> list[Prompt]:
    prompts: list[Prompt] = []
    try:
        with file.open("rb") as lines:
            for line in lines:
                if not is_whole(line):
                    raise ValueError(f"line {len(prompts) + 1} is damaged")
                prompts.append(Prompt.restored(parse_line(line)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"`{file}` must hold the store's prompts, but: {error}; delete it and run the experiment again to have it"
        ) from error
    return prompts


def _replace(file: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, even if the machine loses its power."""
    scratch = file.with_name(f".{file.name}.part-{process_name()}")
    try:
        with scratch.open("wb") as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)
