"""From a name, a folder or a file to a model that is ready to decode."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ovdecode.errors import ConfigurationError, OvdecodeError, PrecisionError
from ovdecode.model import Model
from ovdecode.models.folder import ModelFolder
from ovdecode.models.source import DEFAULT_MODEL, cache_folder, locate
from ovdecode.runners.base import ModelRunner, Precision

if TYPE_CHECKING:
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
        precision: `fast` (the device's defaults, but for a paged cache: where a CPU infers in bf16, it keeps that in
            bf16, too, and otherwise it quantises keys token by token; ``properties={"KV_CACHE_PRECISION": "u8"}``
            halves the memory of bf16), `invariant` (f32 with the device's quantised products and a cache in f16; the
            same bits in any batch) or `exact` (f32 throughout, and invariant). Tested when the model is loaded; with
            the same model, versions, machine and options, that it held is remembered, and one inference shows that
            nothing changed.
        runner: `auto` takes the paged path where the model and the device allow it, and otherwise the stateful one.
        tokenizer: which of the two tokenizers encodes and decodes.
        weights: how the weights of a GGUF file are stored when it is converted.
        threads: how many CPU threads an inference may use; the device's default if None.
        properties: further OpenVINO properties; they win over all others, but must not contradict the precision.
            What is compiled is kept in `CACHE_DIR`, which is a folder of ours unless it is given; nothing is if it is
            empty.
        cache_bytes: bound on the key/value cache. Memory is taken as it is used.
        progress: show progress of a download or conversion; by default only on a terminal.

    Raises:
        ModelError: if there is no such model, or it is no language model.
        PrecisionError: if the precision does not hold on this device, or the properties contradict it.
        ConfigurationError: if a name is none of the above, a number is out of range, or OpenVINO refuses the device or
            the properties.

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
    one_of("weights", weights, Literal["int8", "f16"])
    if threads is not None:
        _check_count("threads", threads)
    _check_count("cache_bytes", cache_bytes)
    _check_properties(properties)
    folder = locate(source, weights=weights, progress=progress)
    options = {
        **({"INFERENCE_NUM_THREADS": threads} if threads is not None else {}),
        "CACHE_DIR": str(cache_folder() / "compiled"),
        **(properties or {}),
    }
    text = _tokenizer(folder, tokenizer)
    made = _make_runner(folder, runner, device, precision, options, cache_bytes)
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
    return Model(made, folder.eos_token_ids, text, folder.name, sibling)


def _make_runner(
    folder: ModelFolder,
    runner: RunnerName,
    device: str,
    precision: Precision,
    properties: Mapping[str, Any],
    cache_bytes: int,
) -> ModelRunner:
    from ovdecode.runners.graph import model_form
    from ovdecode.runners.model_file import ModelFile
    from ovdecode.runners.page_memory import CacheTooSmall
    from ovdecode.runners.paging import PagingUnsupported
    from ovdecode.runners.precision import self_test

    model = ModelFile(folder.xml)

    def make(kind: str) -> ModelRunner:
        make_one = getattr(import_module(f"ovdecode.runners.{kind}"), f"{kind.capitalize()}Runner")
        with _compiling(device, properties):
            made: ModelRunner = make_one(
                model,
                device,
                precision,
                properties,
                cache_bytes=cache_bytes,
                context_length=folder.context_length,
            )
        self_test(made)
        return made

    if runner != "auto":
        return make(runner)
    try:
        return make("paged")
    except CacheTooSmall:
        raise
    except (PagingUnsupported, PrecisionError, ConfigurationError) as error:
        if isinstance(error, PagingUnsupported) and model_form(model.read()) == "explicit":
            return make("explicit")
        if precision != "fast":
            if not isinstance(error, PagingUnsupported):
                raise
            raise PrecisionError(
                f"`precision` must be 'fast' for `{folder.name}` on {device}, which can't run paged otherwise "
                f"({error}), got {precision!r}"
            ) from error
        made = make("stateful")
        log.warning("`%s` can't run paged, so the stateful runner is used: %s", folder.name, error)
        return made


@contextmanager
def _compiling(device: str, properties: Mapping[str, Any]) -> Iterator[None]:
    """Say which parameters to look at, if OpenVINO refuses what is done here."""
    try:
        yield
    except OvdecodeError:
        raise
    except RuntimeError as error:
        import openvino as ov

        raise ConfigurationError(
            f"`device` must be one of {', '.join(ov.Core().available_devices)} on this machine, and `properties` what "
            f"it knows, but OpenVINO refuses {device!r} with {dict(properties)}: {_reason(error)}"
        ) from error


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from ")) or str(error)


def _check_count(parameter: str, value: Any) -> None:
    from ovdecode.plugin import is_whole

    if not is_whole(value) or value < 1:
        raise ConfigurationError(f"`{parameter}` must be a whole number of at least 1, got {value!r}")


def _check_properties(properties: Any) -> None:
    if properties is None:
        return
    if not isinstance(properties, Mapping):
        raise ConfigurationError(
            f"`properties` must map names of OpenVINO properties to values, got {properties!r:.80}"
        )
    if not (cache := properties.get("CACHE_DIR")):
        return
    try:
        Path(cache).mkdir(parents=True, exist_ok=True)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`CACHE_DIR` among the `properties` must be a folder that can be made, got {cache!r:.200}: {error}. Give "
            "another, or '' to keep nothing"
        ) from error


def _tokenizer(folder: ModelFolder, name: str) -> Tokenizer:
    if name == "openvino":
        from ovdecode.models.openvino_tokenizer import OpenVINOTokenizer

        return OpenVINOTokenizer(folder)
    from ovdecode.models.huggingface_tokenizer import HuggingFaceTokenizer

    made = HuggingFaceTokenizer(folder)
    made.read_ahead()
    return made
