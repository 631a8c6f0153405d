"""Changes to a language model's graph: logits of wanted rows, their logsumexp, hidden states, the head alone.

All work on a stateful IR, on one with past inputs and on a paged one, before or after the transformations of
`paging` and `explicit_graph`. They change the model they are given; `ov.Model.clone` is cheap and shares
weights. A *row* is one position of one sequence: ``sequence * time + position`` of the batch, or the token's
index when paged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ovdecode.errors import ModelError
from ovdecode.runners.anatomy import (
    ATTENTION_TYPES,
    Head,
    cache_pairs,
    find_head,
    find_input,
    find_output,
)
from ovdecode.runners.residual import residual_stream

if TYPE_CHECKING:
    from collections.abc import Collection

    import openvino as ov

WANTED_ROWS = "wanted_rows"
"""Name of the i64 input, ``(rows,)``, that says which positions' logits are computed."""

BLOCK = 64
"""How many neighbouring logits are summed up together in the output `blocks`."""

Form = Literal["stateful", "explicit", "paged"]


def model_form(model: ov.Model) -> Form:
    """Return how a language model keeps its cache: in variables, in past inputs, or in pages.

    Raises:
        ModelError: it is no decoder language model with a key/value cache.
    """
    pairs = cache_pairs(model)
    if any(node.get_type_name() == ATTENTION_TYPES[1] for node in model.get_ops()):
        return "paged"
    kinds = {end.get_type_name() for pair in pairs for end in (pair.key, pair.value)}
    if len(kinds) != 1:
        raise ModelError(f"`model` must keep all of its cache in one way, but it mixes variables and inputs: {kinds}")
    return "stateful" if kinds == {"ReadValue"} else "explicit"


def check_language_model(model: ov.Model) -> None:
    """Check that `model` is a decoder language model: token ids in, logits out, a cache for each attention.

    Raises:
        ModelError: it is not; the message says what is missing and names its inputs and outputs.

    Example:
        >>> import numpy as np, openvino as ov
        >>> from openvino import opset13 as op
        >>> pixels = op.parameter([1, 3], np.float32, name="pixels")
        >>> check_language_model(ov.Model([op.relu(pixels)], [pixels], "picture"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ovdecode.errors.ModelError: `model` must have an input `input_ids`, but its inputs are pixels[1,3]...
    """
    find_head(model)
    form = model_form(model)
    cached = 2 * len(cache_pairs(model))
    if form == "stateful" and len(model.get_variables()) != cached:
        raise ModelError(
            f"`model` must keep nothing but its key/value cache, {cached} variables, but it has "
            f"{len(model.get_variables())}; recurrent and hybrid architectures are not supported"
        )


def gather_before_head(model: ov.Model) -> None:
    """Compute logits for wanted rows only: adds the input `wanted_rows`, i64 ``(rows,)``, before the LM head.

    The output `logits` becomes f32 ``(rows, vocab)``. Rows may repeat and come in any order; each must be
    below the number of tokens fed. A model that has the input already is left as it is.

    Raises:
        ModelError: no LM head is found.
    """
    if find_input(model, WANTED_ROWS) is not None:
        return
    import openvino as ov
    from openvino import opset13 as op

    head = find_head(model)
    wanted = op.parameter([-1], ov.Type.i64, name=WANTED_ROWS)
    wanted.output(0).set_names({WANTED_ROWS})
    rows = _take_rows(head.product.input_value(head.activation), head.hidden, wanted)
    head.product.input(head.activation).replace_source_output(rows)
    model.add_parameters([wanted])
    model.validate_nodes_and_infer_types()
    _flatten_logits(model, head)


def add_statistics(model: ov.Model) -> None:
    """Add what saves readers of the logits from reading whole rows of them.

    - `logsumexp`, f32 ``(rows,)``: the log of the sum of exponentials of each row. ``logits - logsumexp[:, None]`` are
      log-probabilities.
    - `weights`, f32 ``(rows, vocab)``: exp(logit - largest of the row), of which the sums are made anyway.
    - `blocks`, f32 ``(rows, 2, blocks)``: of every `BLOCK` neighbouring tokens the largest logit, and the sum of their
      weights.

    A vocabulary that is no multiple of `BLOCK` gets neither weights nor blocks.

    `gather_before_head` is applied first if it was not.

    Raises:
        ModelError: no LM head is found.
    """
    import numpy as np
    from openvino import opset13 as op

    if find_output(model, "logsumexp") is not None:
        return
    gather_before_head(model)
    head = find_head(model)
    logits, vocab = head.logits, head.vocab
    size = BLOCK if vocab % BLOCK == 0 else vocab
    within, among = np.array([2], np.int64), np.array([1], np.int64)
    # The logits themselves are read off the blocks, too: so a device that has them in bf16 makes f32 of them once.
    blocks = op.reshape(logits, np.array([-1, vocab // size, size], np.int64), False)  # (rows, blocks, size)
    rows = op.reshape(blocks, np.array([-1, vocab], np.int64), False).output(0)  # (rows, vocab)
    peaks = op.reduce_max(blocks, within, False)  # (rows, blocks)
    largest = op.reduce_max(peaks, among, True)  # (rows, 1)
    weights = op.exp(op.subtract(blocks, op.unsqueeze(largest, within)))
    # One long sum in single precision is a few parts in a million too small. The relu changes nothing, but that the
    # device does not make one sum of the two again.
    sums = op.relu(op.reduce_sum(weights, within, False))  # (rows, blocks)
    total = op.log(op.reduce_sum(sums, among, False))  # (rows,)
    _move_output(logits, rows)
    _add_output(model, op.add(total, op.squeeze(largest, among)).output(0), "logsumexp")
    if size == BLOCK:
        both = op.concat([op.unsqueeze(peaks, among), op.unsqueeze(sums, among)], 1)  # (rows, 2, blocks)
        _add_output(model, both.output(0), "blocks")
        _add_output(model, op.reshape(weights, np.array([-1, vocab], np.int64), False).output(0), "weights")


def expose_hidden(model: ov.Model, layers: Collection[int] = ()) -> None:
    """Add hidden states as outputs, each f32 ``(rows, hidden)``, at the wanted rows.

    `hidden.N` is the residual stream after layer N: 0 is the embeddings, the number of layers is what enters
    the final norm. `hidden.final` is what enters the LM head, after that norm. `gather_before_head` is
    applied first if it was not. Layers that are there already are kept.

    Args:
        model: the model to change.
        layers: which layers' residual stream to add; `hidden.final` is always added.

    Raises:
        ModelError: a layer is out of range, or the architecture has no plain residual stream.
    """
    stream = residual_stream(model) if layers else []
    wrong = sorted(set(layers) - set(range(len(stream))))
    if wrong:
        raise ModelError(f"`layers` must be from 0 to {len(stream) - 1} for this model, got {wrong}")
    gather_before_head(model)
    head = find_head(model)
    wanted = next(node for node in model.get_parameters() if WANTED_ROWS in node.output(0).names)
    for layer in sorted(set(layers)):
        if find_output(model, f"hidden.{layer}") is None:
            _add_output(model, _take_rows(stream[layer], head.hidden, wanted), f"hidden.{layer}")
    if find_output(model, "hidden.final") is None:
        _add_output(model, head.product.input_value(head.activation), "hidden.final")


def head_model(model: ov.Model) -> ov.Model:
    """Return the final norm and the LM head as a model of their own: `hidden` ``(rows, hidden)`` to `logits`.

    Given the last layer's residual (`hidden.N` of `expose_hidden`) it returns the model's own logits; given
    an inner layer's, it reads that layer out (the logit lens). The output `hidden.final` is there too. Weights
    are shared with `model`, which is not changed.

    Raises:
        ModelError: the architecture has no plain residual stream, or its head needs more than that.
    """
    import openvino as ov
    from openvino import opset13 as op

    copy = model.clone()
    if find_input(copy, WANTED_ROWS) is not None:
        gathered = find_head(copy)
        rows = gathered.product.input_value(gathered.activation).get_node()
        gathered.product.input(gathered.activation).replace_source_output(rows.input_value(0))
    residual = residual_stream(copy)[-1]
    head = find_head(copy)
    hidden = op.parameter([-1, head.hidden], ov.Type.f32, name="hidden")
    hidden.output(0).set_names({"hidden"})
    # Norms were written for rank 3, and their axes may count from the front.
    residual.replace(op.unsqueeze(hidden, 0).output(0))
    final = _as_rows(head.product.input_value(head.activation), head.hidden)
    logits = _as_rows(head.logits, head.vocab)
    head.logits.set_names(set())
    outputs = {"logits": logits, "hidden.final": final}
    for name, output in outputs.items():
        output.set_names({name})
    try:
        return ov.Model([op.result(output) for output in outputs.values()], [hidden], "head")
    except RuntimeError as error:
        raise ModelError(f"`model` must have an LM head that reads the residual alone, but: {error}") from error


def _take_rows(source: ov.Output, hidden: int, wanted: ov.Node) -> ov.Output:
    """Flatten all leading dimensions and gather: ``(..., hidden)`` to ``(rows, hidden)``."""
    import numpy as np
    from openvino import opset13 as op

    flat = op.reshape(source, np.array([-1, hidden], np.int64), False)  # (tokens, hidden)
    return op.gather(flat, wanted, np.array(0, np.int64)).output(0)


def _as_rows(source: ov.Output, width: int) -> ov.Output:
    """Return `source` as f32 ``(rows, width)``: a new output in any case, so that names can move to it."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    if source.element_type != ov.Type.f32:
        source = op.convert(source, ov.Type.f32).output(0)
    return op.reshape(source, np.array([-1, width], np.int64), False).output(0)


def _flatten_logits(model: ov.Model, head: Head) -> None:
    """Make the model's logits output 2-d f32, where a soft cap's constants or a cast left it otherwise."""
    import openvino as ov

    port = head.logits
    if port.element_type == ov.Type.f32 and port.partial_shape.rank.get_length() == 2:
        return
    _move_output(port, _as_rows(port, head.vocab))
    model.validate_nodes_and_infer_types()


def _move_output(source: ov.Output, target: ov.Output) -> None:
    """What was the model's output `source` becomes its output `target`, with the same names."""
    names = source.get_names() or {"logits"}
    source.set_names(set())
    target.set_names(names)
    for reader in source.get_target_inputs():
        if reader.get_node().get_type_name() == "Result":
            reader.replace_source_output(target)


def _add_output(model: ov.Model, source: ov.Output, name: str) -> None:
    import openvino as ov
    from openvino import opset13 as op

    if source.element_type != ov.Type.f32:
        source = op.convert(source, ov.Type.f32).output(0)
    source.add_names({name})
    model.add_results([op.result(source)])
    model.validate_nodes_and_infer_types()
