"""OpenVINO models from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovdecode.errors import ModelError
from ovdecode.models.folder import MODEL_FILE, export_command

PATTERNS = ["openvino_*", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
"""What a decoding run reads of a repository; never any code."""


def fetch_hub(repository: str, progress: bool = False) -> Path:
    """The folder of an OpenVINO repository, in huggingface_hub's own cache.

    Args:
        repository: The hub id, `organisation/name`.
        progress: Show progress bars.

    Raises:
        ModelError: There is no such repository, it holds no OpenVINO model, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        files = HfApi().list_repo_files(repository)
    except GatedRepoError as error:
        raise ModelError(
            f"`{repository}` must be a repository that you may read, but its owner asks for consent first. "
            "Give it on the repository's page, then run: hf auth login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"`{repository}` must be a local folder or a repository on the hub, but it is neither. Check the "
            "spelling; for a private repository run `hf auth login` first."
        ) from error
    except Exception as error:  # the network fails in the words of whichever HTTP library is beneath
        return _from_cache(repository, error)
    if MODEL_FILE not in files:
        raise _not_openvino(repository)
    with _bars(progress):
        try:
            return Path(snapshot_download(repository, allow_patterns=PATTERNS))
        except Exception as error:
            raise ModelError(
                f"`{repository}` could not be downloaded whole ({type(error).__name__}: {error}). What has "
                "arrived is kept: run the same command again to go on from there."
            ) from error


def _from_cache(repository: str, cause: Exception) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, allow_patterns=PATTERNS, local_files_only=True))
    except Exception:
        folder = None
    if folder is not None and (folder / MODEL_FILE).is_file():
        return folder
    raise ModelError(
        f"`{repository}` must be downloaded from the hub once, but the hub cannot be reached "
        f"({type(cause).__name__}: {cause}). Check the network and HF_HUB_OFFLINE, or give a local folder. "
        "If you meant a local folder, there is none of that name here."
    ) from cause


def _not_openvino(repository: str) -> ModelError:
    folder = repository.rsplit("/", 1)[-1]
    return ModelError(
        f"`{repository}` must hold `{MODEL_FILE}`, but it is no OpenVINO repository. Export it once with: "
        f"{export_command(repository, folder)}, then give the folder `{folder}`."
    )


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if progress or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
