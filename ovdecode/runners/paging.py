"""A language model with its cache in pages: OpenVINO's transformation, guarded: it is not public API."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ovdecode.errors import ModelError
from ovdecode.runners.anatomy import describe_ports
from ovdecode.runners.graph import model_form

if TYPE_CHECKING:
    import openvino as ov

INPUTS = (
    "input_ids",
    "position_ids",
    "past_lens",
    "subsequence_begins",
    "block_indices",
    "block_indices_begins",
    "max_context_len",
)
"""The inputs of every paged model, beside the caches."""


class PagingUnsupported(ModelError):
    """This model can't be paged, or not by this version of OpenVINO; a runner falls back to another path."""


@dataclass(frozen=True)
class CacheLayout:
    """One side of the paged cache, keys or values, of all layers, as a compiled model wants it."""

    ports: tuple[str, ...]
    """The input names, in the order of the layers."""
    block: tuple[int, ...]
    """Shape of one block in one layer, ``(kv_heads, tokens, width)``, with its scales if it is quantised."""
    element_type: ov.Type
    """What one element is; an array for it has this type's size in bytes (bf16 has no NumPy type)."""

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in one layer."""
        return prod(self.block) * int(self.element_type.bitwidth) // 8

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of one block in an array, in which two elements of four bits are one."""
        return *self.block[:-1], self.block[-1] * int(self.element_type.bitwidth) // (8 * int(self.element_type.size))


def to_paged(model: ov.Model) -> ov.Model:
    """Return a paged copy of a stateful model: any number of sequences of any length in one row of tokens.

    With ``tokens`` new tokens of ``sequences`` sequences, the inputs are:

    - `input_ids`, `position_ids`: i64 ``(tokens,)``, sequence after sequence.
    - `past_lens`: i32 ``(sequences,)``, how many tokens of each are in the cache; a smaller number takes
      tokens back.
    - `subsequence_begins`: i32 ``(sequences + 1,)``, where each one's new tokens begin, and the end.
    - `block_indices`: i32, the blocks of each sequence, one after another, enough for past and new tokens;
      `block_indices_begins`: i32 ``(sequences + 1,)``, where each one's begin, and the end.
    - `max_context_len`: i32, 0-d, the longest past plus new.
    - `key_cache.N`, `value_cache.N`: written in place; shapes and types are known once compiled, see
      `cache_layouts`.
    - `wanted_rows`, if `gather_before_head` was applied: i64 ``(rows,)``, indices into the row of tokens.

    Outputs keep their names: `logits` is ``(rows, vocab)`` with `gather_before_head` applied before or after,
    and ``(tokens, 1, vocab)`` without. `attention_mask` and `beam_idx` are gone.

    Raises:
        PagingUnsupported: this OpenVINO has no such transformation, or it can't page this model.
        ModelError: `model` is no language model.
    """
    form = model_form(model)
    if form != "stateful":
        raise PagingUnsupported(f"`model` must be stateful to be paged, but it is {form}; {describe_ports(model)}")
    try:
        from openvino._offline_transformations import paged_attention_transformation
    except ImportError as error:
        raise PagingUnsupported(f"this OpenVINO has no paged attention transformation: {error}") from error
    copy = model.clone()
    try:
        paged_attention_transformation(copy)
    except RuntimeError as error:
        raise PagingUnsupported(f"OpenVINO can't page this model: {error}") from error
    _check_paged(copy)
    return copy


def _check_paged(model: ov.Model) -> None:
    names = {name for port in model.inputs for name in port.names}
    expected = set(INPUTS)
    caches = {name for name in names if name.startswith(("key_cache.", "value_cache."))}
    unknown = names - expected - caches - {"wanted_rows"}
    if expected - names or unknown or not caches or model_form(model) != "paged":
        raise PagingUnsupported(
            f"the paged model must have the inputs {sorted(expected)} and caches; missing are "
            f"{sorted(expected - names)}, unknown are {sorted(unknown)}"
        )


def cache_layouts(model: ov.Model | ov.CompiledModel) -> tuple[CacheLayout, CacheLayout]:
    """Return how a paged model wants its key and its value cache, by the device and its properties.

    Args:
        model: compiled, or as a device has optimised it.

    Raises:
        PagingUnsupported: blocks have no static shape, or layers differ in it.
    """

    def layout(kind: str) -> CacheLayout:
        prefix = f"{kind}_cache."
        ports = {name: port for port in model.inputs for name in port.names if name.startswith(prefix)}
        names = sorted(ports, key=lambda name: int(name.removeprefix(prefix)))
        shapes = {str(list(ports[name].partial_shape)[1:]) for name in names}
        types = {ports[name].element_type.get_type_name() for name in names}
        block = list(ports[names[0]].partial_shape)[1:] if names else []
        if len(shapes) != 1 or len(types) != 1 or any(size.is_dynamic for size in block):
            raise PagingUnsupported(f"all {kind} caches must have one static block shape and type: {shapes}, {types}")
        sizes = tuple(size.get_length() for size in block)
        return CacheLayout(tuple(names), sizes, ports[names[0]].element_type)

    return layout("key"), layout("value")


def page_size(key: CacheLayout, value: CacheLayout) -> int:
    """How many tokens a block holds.

    A block of values has one entry for each token; so has one of keys, which may have more for its scales.

    Raises:
        PagingUnsupported: blocks are laid out in another way.
    """
    tokens = value.block[1] if len(value.block) == len(key.block) == 3 else 0
    extra = key.block[1] - tokens if tokens else -1
    if extra < 0 or (extra > 0 and key.element_type.size > 1):
        raise PagingUnsupported(
            "a block of the cache must have the shape (heads, tokens, width), "
            f"but it has {key.block} for keys and {value.block} for values"
        )
    return tokens
