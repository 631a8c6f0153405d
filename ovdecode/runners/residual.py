"""The residual stream of a decoder, found without a pattern for any architecture.

A value belongs to it if *every* path from token ids to LM head passes through it: an attention or an MLP is
bypassed by its skip connection, the stream is bypassed by nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ovdecode.errors import ModelError
from ovdecode.runners.anatomy import ATTENTION_TYPES, Head, find_head, source_names, token_flow

if TYPE_CHECKING:
    import openvino as ov


def residual_stream(model: ov.Model) -> list[ov.Output]:
    """Return the residual stream: what enters each layer, then what leaves the last; ``layers + 1`` values.

    In a topological order of the operations between ids and LM head, every path passes through one of them
    just when no edge leaps over it. A layer's input is the last such value before its attention; the final
    value is the last such sum of two flowing values.

    Raises:
        ModelError: the layers don't lie between sums of the same width, one attention in each: the
            architecture has no plain residual stream, and a guess would be a wrong answer.
    """
    head = find_head(model)
    on_path = _between_ids_and_head(model, head)
    places = {node.get_name(): place for place, node in enumerate(on_path)}
    sources = [[places[n] for n in source_names(node) if n in places] for node in on_path]

    reach = list(range(len(on_path)))  # the furthest operation that reads this one
    for place, before in enumerate(sources):
        for source in before:
            reach[source] = max(reach[source], place)
    cuts, furthest = [], 0
    for place in range(len(on_path)):
        if furthest <= place:
            cuts.append(place)
        furthest = max(furthest, reach[place])

    attentions = [place for place, node in enumerate(on_path) if node.get_type_name() in ATTENTION_TYPES]
    sums = [p for p in cuts if on_path[p].get_type_name() == "Add" and len(sources[p]) == 2]
    if not attentions or not sums:
        raise _no_stream(f"{len(attentions)} attentions and {len(sums)} residual sums were found")
    stream = [max(cut for cut in cuts if cut < place) for place in attentions] + [sums[-1]]
    if stream != sorted(set(stream)) or stream[-1] < attentions[-1]:
        raise _no_stream("two attentions share a layer, or none stands between two residual sums")
    if any(place not in sums for place in stream[1:]):
        wrong = next(on_path[place] for place in stream[1:] if place not in sums)
        raise _no_stream(f"a layer begins at {wrong.get_type_name()} `{wrong.get_friendly_name()}`, which is no sum")
    per_layer = {sum(low < place <= high for place in sums) for low, high in pairwise(stream)}
    if len(per_layer) != 1:
        raise _no_stream(f"layers hold different numbers of residual sums, {sorted(per_layer)}")
    found = [on_path[place].output(0) for place in stream]
    widths = {str(list(value.partial_shape)[-1]) for value in found}
    if widths != {str(head.hidden)}:
        raise _no_stream(f"its width must be {head.hidden} throughout, as the LM head's, but is {sorted(widths)}")
    return found


def _between_ids_and_head(model: ov.Model, head: Head) -> list[ov.Node]:
    """The operations of the token flow that the LM head's hidden state depends on, in topological order."""
    flow = token_flow(model)
    needed = {head.product.input_value(head.activation).get_node().get_name()}
    kept = []
    for node in reversed(flow):
        if node.get_name() in needed:
            kept.append(node)
            if node.get_type_name() != "ShapeOf":
                needed.update(source_names(node))
    return kept[::-1]


def _no_stream(found: str) -> ModelError:
    return ModelError(
        f"`model` must have a residual stream with one attention in each layer, but {found}; "
        "hidden states and inner layers are not available for this architecture"
    )
