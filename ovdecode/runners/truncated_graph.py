"""A language model cut off after one of its layers: the layers below, then the final norm and the LM head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovdecode.errors import ConfigurationError
from ovdecode.runners.anatomy import cache_pairs, source_names
from ovdecode.runners.residual import residual_stream

if TYPE_CHECKING:
    import openvino as ov


def truncated(model: ov.Model, layer: int) -> ov.Model:
    """Return a copy of a stateful model, or of one with past inputs, whose LM head reads what layer `layer` leaves.

    The layers above are not in it, nor is their cache. Weights are shared with `model`, which is not changed.

    Raises:
        ConfigurationError: `layer` is not from 1 to the number of layers.
        ModelError: the architecture has no plain residual stream.
    """
    copy = model.clone()
    stream = residual_stream(copy)
    if not 1 <= layer < len(stream):
        raise ConfigurationError(f"`layer` must be from 1 to {len(stream) - 1} for this model, got {layer!r}")
    dropped = cache_pairs(copy)[layer:]
    stream[-1].replace(stream[layer])
    above = {end.get_name() for pair in dropped for end in (pair.key, pair.value)}
    for node in copy.get_ordered_ops():  # what depends on the cache of a dropped layer: its new cache, at last
        if above.intersection(source_names(node)):
            above.add(node.get_name())
    for sink in copy.get_sinks():
        if sink.get_name() in above:
            copy.remove_sink(sink)
    for result in copy.get_results():
        if result.get_name() in above:
            copy.remove_result(result)
    for pair in dropped:
        for end in (pair.key, pair.value):
            if end.get_type_name() == "ReadValue":
                copy.remove_variable(copy.get_variable_by_id(end.get_variable_id()))
            else:
                copy.remove_parameter(end)
    copy.validate_nodes_and_infer_types()
    return copy
