"""Folders and files that appear whole or not at all, whoever is killed or starts at once."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovdecode.errors import ModelError


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Hold the one lock of `target` among all processes; the system frees it when its holder dies.

    Raises:
        ModelError: the folder that holds `target` cannot be written.
    """
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise ModelError(
            f"`{target.parent}` must be a folder that can be written, but: {error}. Set the environment "
            "variable OVDECODE_CACHE to a folder of your own."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A new empty folder on the file system of `target`, gone when the block ends, however it ends.

    Call it while holding `exclusive(target)`: then every scratch folder already there was left by a process
    that was killed, and is removed first.
    """
    prefix = f".{target.name}.part-"
    for stale in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def publish_folder(folder: Path, target: Path) -> None:
    """Give the finished `folder` the name `target`, in place of an older `target` if there is one.

    The two must share a file system. Every reader sees the old folder, or none, or the whole new one.
    """
    if target.exists():
        old = folder.with_name(f"{folder.name}-old")
        os.replace(target, old)
        os.replace(folder, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(folder, target)


def is_special(file: Path) -> bool:
    """Whether there is a pipe or a device of this name, beside which nothing can be made."""
    return file.exists() and not file.is_file() and not file.is_dir()


@contextmanager
def published(target: Path) -> Iterator[Path]:
    """Where to write a file that gets the name `target` when the block ends without an error.

    Every reader sees the old file, or none, or the whole new one. A link at `target` stays, and what it points to is
    replaced; a pipe or a device is written to instead.

    Raises:
        OSError: if the target is a folder, or can't be written.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(target))
    special, file = is_special(target), target.resolve()
    with tempfile.TemporaryDirectory(prefix=".ovdecode-part-", dir=None if special else file.parent) as folder:
        scratch = Path(folder) / target.name
        yield scratch
        if special:
            with scratch.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        else:
            os.replace(scratch, file)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
