"""From a name, a folder or a file to a model that is ready to decode."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ovdecode.errors import ModelError, PrecisionError
from ovdecode.model import Model
from ovdecode.models.folder import ModelFolder
from ovdecode.models.source import DEFAULT_MODEL, cache_folder, locate
from ovdecode.runners.base import ModelRunner, Precision

if TYPE_CHECKING:
    import openvino as ov

    from ovdecode.models.tokenizer import Tokenizer

RunnerName = Literal["auto", "paged", "stateful", "explicit"]
log = logging.getLogger(__name__)


def load(
    source: str | Path = DEFAULT_MODEL,
    *,
    device: str = "CPU",
    precision: Precision = "fast",
    runner: RunnerName = "auto",
    tokenizer: Literal["huggingface", "openvino"] = "huggingface",
    weights: Literal["int8", "f16"] = "int8",
    threads: int | None = None,
    properties: Mapping[str, Any] | None = None,
    cache_bytes: int = 4 << 30,
    progress: bool | None = None,
) -> Model:
    """Load a model to decode with.

    Args:
        source: `smollm2`, an OpenVINO model folder, a GGUF file, or the id of an OpenVINO repository on the hub.
        device: an OpenVINO device name.
        precision: `fast` (the device's defaults), `invariant` (the device's compute type; the same bits in any
            batch) or `exact` (f32 throughout, and invariant). Tested when the model is loaded.
        runner: `auto` takes the paged path where the model and the device allow it, and otherwise the stateful one.
        tokenizer: which of the two tokenizers encodes and decodes.
        weights: how the weights of a GGUF file are stored when it is converted.
        threads: how many CPU threads an inference may use; the device's default if None.
        properties: further OpenVINO properties; they win over all others.
        cache_bytes: bound on the key/value cache. Memory is taken as it is used.
        progress: show progress of a download or conversion; by default only on a terminal.

    Raises:
        ModelError: if there is no such model, or it is no language model.
        PrecisionError: if the precision does not hold on this device.
        ConfigurationError: if a name is none of the above.

    Example:
        >>> import ovdecode as od
        >>> od.load("no/such/folder")
        Traceback (most recent call last):
            ...
        ovdecode.errors.ModelError: ...
    """
    from ovdecode.plugin import one_of

    one_of("precision", precision, Precision)
    one_of("runner", runner, RunnerName)
    one_of("tokenizer", tokenizer, Literal["huggingface", "openvino"])
    folder = locate(source, weights=weights, progress=progress)
    options = {
        **({"INFERENCE_NUM_THREADS": threads} if threads is not None else {}),
        "CACHE_DIR": str(cache_folder() / "compiled"),
        **(properties or {}),
    }
    made = _make_runner(folder, runner, device, precision, options, cache_bytes)
    # A loaded model is hundreds of thousands of objects that stay: the collector need not look at them in every round.
    gc.collect()
    gc.freeze()
    sibling = partial(
        load,
        device=device,
        precision=precision,
        runner=runner,
        tokenizer=tokenizer,
        weights=weights,
        threads=threads,
        properties=properties,
        cache_bytes=cache_bytes,
        progress=progress,
    )
    return Model(made, folder.eos_token_ids, _tokenizer(folder, tokenizer), folder.name, sibling)


def _make_runner(
    folder: ModelFolder,
    runner: RunnerName,
    device: str,
    precision: Precision,
    properties: Mapping[str, Any],
    cache_bytes: int,
) -> ModelRunner:
    from ovdecode.runners.graph import check_language_model, model_form
    from ovdecode.runners.paging import PagingUnsupported
    from ovdecode.runners.precision import self_test

    model = _read(folder)
    check_language_model(model)
    chosen = runner
    if runner == "auto":
        chosen = "explicit" if model_form(model) == "explicit" else "paged"

    def make(kind: str) -> ModelRunner:
        made: ModelRunner = getattr(import_module(f"ovdecode.runners.{kind}"), f"{kind.capitalize()}Runner")(
            model,
            device,
            precision,
            properties,
            cache_bytes=cache_bytes,
            context_length=folder.context_length,
        )
        self_test(made)
        return made

    try:
        return make(chosen)
    except (PagingUnsupported, PrecisionError) as error:
        if runner != "auto" or chosen != "paged":
            raise
        if precision != "fast":
            raise PrecisionError(
                f"`precision` must be 'fast' for `{folder.name}` on {device}, which can't run paged otherwise "
                f"({error}), got {precision!r}"
            ) from error
        log.warning("`%s` can't run paged, so the stateful runner is used: %s", folder.name, error)
        return make("stateful")


def _read(folder: ModelFolder) -> ov.Model:
    import openvino as ov

    try:
        return ov.Core().read_model(folder.xml)
    except RuntimeError as error:
        raise ModelError(
            f"`{folder.xml}` must be an OpenVINO model, but OpenVINO can't read it: {error}; export it again"
        ) from error


def _tokenizer(folder: ModelFolder, name: str) -> Tokenizer:
    if name == "openvino":
        from ovdecode.models.openvino_tokenizer import OpenVINOTokenizer

        return OpenVINOTokenizer(folder)
    from ovdecode.models.huggingface_tokenizer import HuggingFaceTokenizer

    return HuggingFaceTokenizer(folder)
