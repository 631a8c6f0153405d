"""A stateful language model as one with its cache in plain sight: past inputs and present outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovdecode.errors import ModelError
from ovdecode.runners.anatomy import attention_operations, cache_pairs, describe_ports
from ovdecode.runners.graph import model_form

if TYPE_CHECKING:
    import openvino as ov


def to_explicit(model: ov.Model) -> ov.Model:
    """Return a copy whose cache comes in as ``past_key_values.N.key`` and leaves as ``present.N.key``.

    So do the values. All are ``(batch, kv_heads, length, head_size)``, with length 0 for an empty past.
    `input_ids`, `attention_mask`, `position_ids` and anything else stay; `beam_idx` goes, so rows are
    reordered by whoever holds the arrays. A model that is explicit already is copied as it is. (OpenVINO's
    own `stateful_to_stateless_transformation` goes by the variables' names, and gives two outputs the same
    name where a converter misnamed them.)

    Raises:
        ModelError: the model is neither stateful nor explicit, or its variables are not a key/value cache.
    """
    import openvino as ov
    from openvino import opset13 as op

    copy = model.clone()
    form = model_form(copy)
    if form == "explicit":
        return copy
    if form != "stateful":
        raise ModelError(f"`model` must be stateful to be made explicit, but it is {form}; {describe_ports(model)}")

    assigns = {sink.get_variable_id(): sink for sink in copy.get_sinks() if sink.get_type_name() == "Assign"}
    pasts, presents = [], []
    for pair in cache_pairs(copy):
        for kind, read in (("key", pair.key), ("value", pair.value)):
            assign = assigns.pop(read.get_attributes()["variable_id"])
            past = op.parameter(read.get_output_partial_shape(0), read.get_output_element_type(0))
            past.output(0).set_names({f"past_key_values.{pair.layer}.{kind}"})
            past.set_friendly_name(f"past_key_values.{pair.layer}.{kind}")
            _without_reorder(read).replace(past.output(0))
            present = assign.input_value(0)
            present.set_names({f"present.{pair.layer}.{kind}"})
            copy.remove_sink(assign)
            pasts.append(past)
            presents.append(op.result(present))
    if assigns:
        raise ModelError(f"`model` must keep nothing but a key/value cache, but it also keeps {sorted(assigns)}")
    _repair_head_repeats(copy)
    copy.add_parameters(pasts)
    copy.add_results(presents)
    for variable in list(copy.get_variables()):
        copy.remove_variable(variable)
    for parameter in list(copy.get_parameters()):
        if not parameter.output(0).get_target_inputs():
            copy.remove_parameter(parameter)
    copy.validate_nodes_and_infer_types()
    return ov.Model(copy.get_results(), copy.get_parameters(), copy.get_friendly_name())


def _without_reorder(read: ov.Node) -> ov.Output:
    """Return what a layer reads of a variable: the Gather over `beam_idx`, or the variable itself."""
    readers = [reader.get_node() for reader in read.output(0).get_target_inputs()]
    if len(readers) == 1 and readers[0].get_type_name() == "Gather":
        indices = readers[0].input_value(1).get_node()
        if indices.get_type_name() == "Parameter":
            return readers[0].output(0)
    return read.output(0)


def _repair_head_repeats(model: ov.Model) -> None:
    """Let keys and values of any length through the Broadcast that repeats them for grouped queries.

    OpenVINO's GGUF builder writes 0 as the target length where 1, "as it is", is meant. Fused stateful
    attention never runs that operation, so only an explicit graph fails on it; no length of 0 can be meant
    before an attention.
    """
    for attention in attention_operations(model):
        for source in attention.input_values()[1:3]:
            node = source.get_node()
            while node.get_type_name() in ("Broadcast", "Convert", "Reshape", "Transpose"):
                if node.get_type_name() == "Broadcast" and node.get_attributes()["mode"] == "bidirectional":
                    _zeros_to_ones(node.input(1))
                node = node.input_value(0).get_node()


def _zeros_to_ones(target: ov.Input) -> None:
    """Replace zeros by ones in a target shape that is a constant, or a Concat of constants and dimensions."""
    from openvino import opset13 as op

    node = target.get_source_output().get_node()
    for place in node.inputs() if node.get_type_name() == "Concat" else [target]:
        constant = place.get_source_output().get_node()
        if constant.get_type_name() == "Constant" and not constant.data.all():
            sizes = constant.data.copy()
            sizes[sizes == 0] = 1
            place.replace_source_output(op.constant(sizes).output(0))
