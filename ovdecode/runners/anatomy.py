"""Where things are in a decoder language model's graph, found by structure, never by a converter's spelling.

Everything rests on one notion, the *token flow*: the operations whose values depend on the values of the
token ids. Edges into ``ShapeOf`` are left out, since a shape does not depend on a value. Masks, rotary
angles, weights and the cache's past are outside the flow; embeddings, attention, the MLPs and the LM head are
inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovdecode.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openvino as ov

ATTENTION_TYPES = ("ScaledDotProductAttention", "PagedAttentionExtension")
"""Operation types that stand for one attention layer, before and after the paged transformation."""

# What may stand between the LM head's product and the logits: casts, reshapes, a bias, a scale, a soft cap.
_AFTER_HEAD = frozenset(
    (
        "Add",
        "Clamp",
        "Convert",
        "Divide",
        "Maximum",
        "Minimum",
        "Multiply",
        "Reshape",
        "Squeeze",
        "Subtract",
        "Tanh",
    )
)
# What may stand between a cached tensor and the attention that reads it.
_AFTER_CACHE = frozenset(
    (
        "Broadcast",
        "Concat",
        "Convert",
        "Gather",
        "Multiply",
        "Reshape",
        "Slice",
        "Tile",
        "Transpose",
        "Unsqueeze",
    )
)


@dataclass(frozen=True)
class Head:
    """The LM head: the product of the last hidden states with the vocabulary's weights."""

    product: ov.Node
    """The ``MatMul``."""
    activation: int
    """Which of its two inputs is the hidden state; the other is the weights."""
    hidden: int
    """Width of the hidden state."""
    vocab: int
    """Width of the logits."""
    logits: ov.Output
    """What the model's logits output reads, after a soft cap or a cast if there are any."""


@dataclass(frozen=True)
class CachePair:
    """The two ends, in the graph, of one layer's key/value cache: `ReadValue` operations or parameters."""

    layer: int
    key: ov.Node
    value: ov.Node


def describe_ports(model: ov.Model) -> str:
    """Return the model's inputs and outputs with their shapes, for error messages."""

    def ports(found: list[ov.Output]) -> str:
        shown = [f"{min(port.names) if port.names else '?'}{port.partial_shape}" for port in found[:6]]
        return ", ".join(shown) + (f" and {len(found) - 6} more" if len(found) > 6 else "") or "none"

    return f"its inputs are {ports(model.inputs)}; its outputs are {ports(model.outputs)}"


def find_input(model: ov.Model, name: str) -> ov.Output | None:
    """Return the input called `name`, or None."""
    return next((port for port in model.inputs if name in port.names), None)


def find_output(model: ov.Model, name: str) -> ov.Output | None:
    """Return the output called `name`, or None."""
    return next((port for port in model.outputs if name in port.names), None)


def attention_operations(model: ov.Model) -> list[ov.Node]:
    """Return the attention operations in the order in which tokens flow through them.

    Raises:
        ModelError: the graph has none (attention written out as products and a softmax is not recognised).
    """
    found = [node for node in token_flow(model) if node.get_type_name() in ATTENTION_TYPES]
    if not found:
        raise ModelError(
            "`model` must have ScaledDotProductAttention operations fed by its token ids, but has none; "
            f"export it as a text-generation model with past. Now {describe_ports(model)}"
        )
    return found


def token_flow(model: ov.Model) -> list[ov.Node]:
    """Return the operations whose values depend on the values of the token ids, in topological order."""
    ids = find_input(model, "input_ids")
    if ids is None:
        raise ModelError(f"`model` must have an input `input_ids`, but {describe_ports(model)}")
    reached = {ids.get_node().get_name()}
    flow = []
    for node in model.get_ordered_ops():
        name = node.get_name()
        if node.get_type_name() != "ShapeOf" and any(source in reached for source in source_names(node)):
            reached.add(name)
        if name in reached:
            flow.append(node)
    return flow


def source_names(node: ov.Node) -> Iterator[str]:
    """Yield the names of the operations that `node` reads."""
    return (value.get_node().get_name() for value in node.input_values())


def find_head(model: ov.Model) -> Head:
    """Return the LM head, by walking back from the logits to the first product of the token flow.

    Raises:
        ModelError: the model has no logits output, or no such product with constant weights stands before it.
    """
    port = find_output(model, "logits") or (model.outputs[0] if len(model.outputs) == 1 else None)
    if port is None:
        raise ModelError(f"`model` must have an output `logits`, but {describe_ports(model)}")
    inside = {node.get_name() for node in token_flow(model)}
    logits = port.get_node().input_value(0)
    source = logits
    while source.get_node().get_type_name() in _AFTER_HEAD:
        flowing = [value for value in source.get_node().input_values() if value.get_node().get_name() in inside]
        if len(flowing) != 1:
            break
        source = flowing[0]
    product = source.get_node()
    flowing_inputs = [i for i, value in enumerate(product.input_values()) if value.get_node().get_name() in inside]
    if product.get_type_name() != "MatMul" or len(flowing_inputs) != 1:
        raise ModelError(
            "`model` must end in an LM head, a MatMul of hidden states with constant weights, but "
            f"{product.get_type_name()} `{product.get_friendly_name()}` stands before the logits; "
            + describe_ports(model)
        )
    activation = flowing_inputs[0]
    weights = product.input(1 - activation).get_partial_shape()
    vocab = list(port.partial_shape)[-1]
    transposed = product.get_attributes()["transpose_a" if activation == 0 else "transpose_b"]
    if weights.is_dynamic or len(weights) != 2 or vocab.is_dynamic or transposed != (activation == 1):
        raise ModelError(
            "`model` must have an LM head with weights of a static 2-d shape, but they are "
            f"{weights} and the logits {port.partial_shape}"
        )
    sizes = [dimension.get_length() for dimension in weights]
    width = vocab.get_length()
    hidden = sizes[1] if sizes[0] == width else sizes[0]
    return Head(product, activation, hidden, width, logits)


def cache_pairs(model: ov.Model) -> list[CachePair]:
    """Return where each layer's cached keys and values enter the graph, in the order of the layers.

    They are `ReadValue` operations in a stateful IR and parameters in one with past inputs or a paged one.
    Keys and values are told apart by the attention input they lead to: converters have been seen to name
    value variables ``past_key_values.13.valuepresent.13.key``.

    Raises:
        ModelError: an attention has no cache behind its keys and values, or two share one.
    """
    pairs = []
    for layer, attention in enumerate(attention_operations(model)):
        offset = 3 if attention.get_type_name() == "PagedAttentionExtension" else 1
        ends = [_cache_behind(attention.input_value(offset + i)) for i in range(2)]
        if ends[0] is None or ends[1] is None:
            raise ModelError(
                f"`model` must keep a key/value cache, but attention {layer} reads none "
                f"(`{attention.get_friendly_name()}`); export it with past. Now {describe_ports(model)}"
            )
        pairs.append(CachePair(layer, ends[0], ends[1]))
    names = {end.get_name() for pair in pairs for end in (pair.key, pair.value)}
    if len(names) != 2 * len(pairs):
        raise ModelError(
            f"`model` must have one key and one value cache for each attention, {2 * len(pairs)} in all, "
            f"but it has {len(names)}"
        )
    return pairs


def _cache_behind(source: ov.Output) -> ov.Node | None:
    """Walk back from an attention's input to the `ReadValue` or rank-4 parameter that holds the past."""
    waiting, seen = [source], set()
    while waiting:
        node = waiting.pop().get_node()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        kind = node.get_type_name()
        if kind == "ReadValue" or (kind == "Parameter" and node.get_output_partial_shape(0).rank.get_length() >= 3):
            return node
        if kind in _AFTER_CACHE:
            # Gather and Slice take indices too: only their data can be the cache.
            values = node.input_values()
            waiting += values if kind == "Concat" else values[:1]
    return None
