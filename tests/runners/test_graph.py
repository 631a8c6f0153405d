"""Each change to the graph against the untouched IR of a real model, in f32 throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp

from ovdecode.errors import ModelError
from ovdecode.models import ModelFolder
from ovdecode.runners.anatomy import attention_operations, cache_pairs, find_head
from ovdecode.runners.explicit_graph import to_explicit
from ovdecode.runners.graph import (
    BLOCK,
    add_statistics,
    check_language_model,
    expose_hidden,
    gather_before_head,
    head_model,
    model_form,
)
from ovdecode.runners.paging import CacheLayout, PagingUnsupported, cache_layouts, page_size, to_paged
from ovdecode.runners.residual import residual_stream

Array = npt.NDArray[Any]
Change = Callable[[Any], Any]

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
# "Once upon a time, in a small village near the edge of a great forest, there lived a girl"
PROMPT = np.array(
    [
        6403,
        1980,
        253,
        655,
        28,
        281,
        253,
        1165,
        6560,
        2141,
        260,
        5595,
        282,
        253,
        1109,
        3150,
        28,
        665,
        4161,
        253,
        8180,
    ]
)
LAYERS, HIDDEN, VOCAB = 30, 576, 49152


@pytest.fixture(scope="module")
def core() -> Any:
    import openvino as ov

    return ov.Core()


@pytest.fixture(scope="module")
def untouched(core: Any, smollm2_folder: ModelFolder) -> Any:
    """The IR as it is on disk; tests change clones of it."""
    return core.read_model(smollm2_folder.xml)


class Stateful:
    """A bare stateful request: the oracle, and the carrier of changed graphs."""

    def __init__(self, core: Any, model: Any, properties: dict[str, Any] = EXACT) -> None:
        self.request = core.compile_model(model, "CPU", properties).create_infer_request()
        self.past = 0

    def __call__(self, ids: Array, rows: Array | None = None, *, fresh: bool = True) -> dict[str, Array]:
        if fresh:
            self.request.reset_state()
            self.past = 0
        batch, time = ids.shape
        feed = {
            "input_ids": ids.astype(np.int64),
            "attention_mask": np.ones((batch, self.past + time), np.int64),
            "position_ids": np.tile(np.arange(self.past, self.past + time), (batch, 1)),
            "beam_idx": np.arange(batch, dtype=np.int32),
        }
        if rows is not None:
            feed["wanted_rows"] = rows.astype(np.int64)
        self.past += time
        return copied(self.request.infer(feed))


class Paged:
    """A bare paged request with its own caches; each sequence has blocks of its own."""

    def __init__(self, core: Any, model: Any, blocks: int = 16) -> None:
        import openvino as ov

        compiled = core.compile_model(model, "CPU", EXACT)
        self.request = compiled.create_infer_request()
        self.rows = any("wanted_rows" in port.names for port in compiled.inputs)
        self.caches = []  # a request does not keep shared arrays alive
        for layout in cache_layouts(compiled):
            self.block = layout.block[1]
            for port in layout.ports:
                self.caches.append(np.zeros((blocks, *layout.block), np.float32))
                self.request.set_tensor(port, ov.Tensor(self.caches[-1], shared_memory=True))

    def __call__(self, new: list[Array], past: list[int], rows: Array | None = None) -> dict[str, Array]:
        totals = [before + len(ids) for before, ids in zip(past, new, strict=True)]
        used = [-(-total // self.block) for total in totals]
        feed = {
            "input_ids": np.concatenate(new).astype(np.int64),
            "position_ids": np.concatenate([np.arange(p, t) for p, t in zip(past, totals, strict=True)]),
            "past_lens": np.array(past, np.int32),
            "subsequence_begins": np.cumsum([0, *map(len, new)], dtype=np.int32),
            "block_indices": np.concatenate([4 * i + np.arange(n) for i, n in enumerate(used)]).astype(np.int32),
            "block_indices_begins": np.cumsum([0, *used], dtype=np.int32),
            "max_context_len": np.array(max(totals), np.int32),
        }
        if self.rows:
            feed["wanted_rows"] = np.arange(sum(map(len, new))) if rows is None else rows
        return copied(self.request.infer(feed))


def copied(results: Any) -> dict[str, Array]:
    return {name: array.copy() for port, array in results.items() for name in port.names}


def changed(model: Any, *changes: Change) -> Any:
    copy = model.clone()
    for change in changes:
        copy = change(copy) or copy
    return copy


@pytest.fixture(scope="module")
def plain(core: Any, untouched: Any) -> Stateful:
    return Stateful(core, untouched)


@pytest.fixture(scope="module")
def expected(plain: Stateful) -> Array:
    logits: Array = plain(PROMPT[None])["logits"][0]  # (time, vocab)
    return logits


@pytest.fixture(scope="module")
def everything(untouched: Any) -> Any:
    """A stateful model with all that a runner may add."""
    return changed(untouched, add_statistics, lambda model: expose_hidden(model, range(LAYERS + 1)))


@pytest.fixture(scope="module")
def answers(core: Any, everything: Any) -> dict[str, Array]:
    return Stateful(core, everything)(PROMPT[None], np.arange(len(PROMPT)))


# The graph is understood.


def test_the_parts_of_a_stateful_model_are_found(untouched: Any) -> None:
    check_language_model(untouched)
    head = find_head(untouched)
    assert (model_form(untouched), head.hidden, head.vocab) == ("stateful", HIDDEN, VOCAB)
    assert len(attention_operations(untouched)) == len(cache_pairs(untouched)) == LAYERS
    assert len(residual_stream(untouched)) == LAYERS + 1


@pytest.mark.parametrize("convert", [to_paged, to_explicit])
def test_the_parts_are_found_in_every_form(untouched: Any, convert: Change) -> None:
    model = convert(untouched)
    check_language_model(model)
    assert model_form(model) == {"to_paged": "paged", "to_explicit": "explicit"}[convert.__name__]
    assert len(residual_stream(model)) == LAYERS + 1
    assert model_form(untouched) == "stateful"


def test_a_model_without_token_ids_is_refused_by_name() -> None:
    import openvino as ov
    from openvino import opset13 as op

    pixels = op.parameter([1, 3], np.float32, name="pixels")
    model = ov.Model([op.relu(pixels)], [pixels], "picture")
    with pytest.raises(ModelError, match=r"`input_ids`.*pixels\[1,3\]"):
        check_language_model(model)


def bigram(vocab: int) -> Any:
    """A model without attention: an embedding and a head."""
    import openvino as ov
    from openvino import opset13 as op

    ids = op.parameter([-1, -1], np.int64, name="input_ids")
    ids.output(0).set_names({"input_ids"})
    embedded = op.gather(np.ones((vocab, 4), np.float32), ids, np.int64(0))
    logits = op.matmul(embedded, np.ones((4, vocab), np.float32), False, False)
    logits.output(0).set_names({"logits"})
    return ov.Model([op.result(logits)], [ids], "bigram")


def test_a_model_without_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="ScaledDotProductAttention"):
        check_language_model(bigram(8))


def test_a_model_without_a_cache_is_refused(untouched: Any) -> None:
    from openvino import opset13 as op

    model = untouched.clone()
    pair = cache_pairs(model)[3]
    pair.key.output(0).replace(op.constant(np.zeros((1, 3, 0, 64), np.float32)).output(0))
    with pytest.raises(ModelError, match="attention 3"):
        check_language_model(model)


def test_a_stream_that_is_no_plain_sum_is_refused(untouched: Any) -> None:
    """A layer that scales its output: hidden states would be off by that scale, so nothing is returned."""
    from openvino import opset13 as op

    model = untouched.clone()
    middle = residual_stream(model)[7]
    readers = list(middle.get_target_inputs())
    scaled = op.multiply(middle, np.float32(2)).output(0)
    for reader in readers:
        reader.replace_source_output(scaled)
    with pytest.raises(ModelError, match="which is no sum"):
        expose_hidden(model, [7])


# Outputs.


def test_wanted_rows_have_the_plain_models_logits_in_any_order(core: Any, untouched: Any, expected: Array) -> None:
    rows = np.array([20, 3, 3, 0])
    found = Stateful(core, changed(untouched, gather_before_head))(PROMPT[None], rows)["logits"]
    assert found.shape == (4, VOCAB)
    np.testing.assert_allclose(found, expected[rows], atol=1e-3)


def test_rows_of_a_batch_are_counted_sequence_after_sequence(core: Any, everything: Any, plain: Stateful) -> None:
    batch = np.stack([PROMPT[:6], PROMPT[6:12]])
    every = plain(batch)["logits"]  # (batch, time, vocab)
    found = Stateful(core, everything)(batch, np.array([5, 11, 7]))["logits"]
    np.testing.assert_allclose(found, every.reshape(12, VOCAB)[[5, 11, 7]], atol=1e-3)


def test_changes_repeated_change_nothing(untouched: Any) -> None:
    changes = [gather_before_head, add_statistics, lambda model: expose_hidden(model, [4])]
    model = changed(untouched, *changes, *changes)
    names = ["logits", "logsumexp", "blocks", "weights", "hidden.4", "hidden.final"]
    assert [port.any_name for port in model.outputs] == names


def test_all_outputs_leave_the_logits_alone(answers: dict[str, Array], expected: Array) -> None:
    np.testing.assert_allclose(answers["logits"], expected, atol=1e-3)


def test_logsumexp_is_scipys(answers: dict[str, Array]) -> None:
    exact = logsumexp(answers["logits"].astype(np.float64), axis=1)
    np.testing.assert_allclose(answers["logsumexp"], exact, rtol=1e-6)


def test_blocks_have_their_largest_logit_and_the_sum_of_their_weights(answers: dict[str, Array]) -> None:
    blocks = answers["logits"].reshape(len(PROMPT), VOCAB // BLOCK, BLOCK)
    peaks, sums = answers["blocks"].swapaxes(0, 1)
    np.testing.assert_array_equal(peaks, blocks.max(axis=2))
    weights = np.exp(blocks.astype(np.float64) - peaks.max(axis=1)[:, None, None])
    np.testing.assert_allclose(sums, weights.sum(axis=2), rtol=1e-5)
    np.testing.assert_allclose(answers["weights"], weights.reshape(len(PROMPT), VOCAB), rtol=3e-6)


def test_a_vocabulary_that_is_no_multiple_of_a_block_gets_no_blocks() -> None:
    for vocab, names in ((BLOCK + 1, ["logits", "logsumexp"]), (BLOCK, ["logits", "logsumexp", "blocks", "weights"])):
        model = bigram(vocab)
        add_statistics(model)
        assert [port.any_name for port in model.outputs] == names


def test_hidden_zero_is_the_embeddings(core: Any, answers: dict[str, Array]) -> None:
    """The embedding of a token is the same wherever it stands: 253 is at places 2, 6, 13 and 19."""
    places = np.flatnonzero(PROMPT == 253)
    assert len(places) == 4
    assert (answers["hidden.0"][places] == answers["hidden.0"][places[0]]).all()
    assert not (answers["hidden.1"][places] == answers["hidden.1"][places[0]]).all()


def test_the_final_hidden_state_is_the_normed_last_residual(answers: dict[str, Array]) -> None:
    last, final = answers[f"hidden.{LAYERS}"], answers["hidden.final"]
    assert last.shape == final.shape == (len(PROMPT), HIDDEN)
    weight = final / (last / np.sqrt((last**2).mean(axis=1, keepdims=True) + 1e-5))  # one weight a column
    np.testing.assert_allclose(weight, np.broadcast_to(np.median(weight, axis=0), weight.shape), rtol=1e-3)


@pytest.mark.parametrize("which", ["untouched", "everything", "paged"])
def test_the_head_alone_reads_the_last_residual_out(
    core: Any, which: str, untouched: Any, everything: Any, answers: dict[str, Array]
) -> None:
    model = {"untouched": untouched, "everything": everything, "paged": to_paged(untouched)}[which]
    head = core.compile_model(head_model(model), "CPU", EXACT)
    found = head({"hidden": answers[f"hidden.{LAYERS}"]})
    for name in ("logits", "hidden.final"):
        np.testing.assert_allclose(found[name], answers[name], atol=1e-3)
    assert model_form(model) == ("paged" if which == "paged" else "stateful")


def test_in_the_devices_own_precision_all_choices_of_layers_have_the_same_bits(core: Any, untouched: Any) -> None:
    """A hidden state as output makes a bf16 device keep the stream in f32: logits move, but only once.

    The head alone keeps up with it because its normed state is an output as well.
    """
    rows = np.arange(len(PROMPT))
    few = Stateful(core, changed(untouched, expose_hidden), {})(PROMPT[None], rows)
    many = Stateful(core, changed(untouched, lambda model: expose_hidden(model, [0, 11, LAYERS])), {})
    found = many(PROMPT[None], rows)
    assert (found["logits"] == few["logits"]).all()
    alone = core.compile_model(head_model(untouched), "CPU")({"hidden": found[f"hidden.{LAYERS}"]})["logits"]
    assert (alone == found["logits"]).all()


def test_a_layer_out_of_range_is_refused(untouched: Any) -> None:
    with pytest.raises(ModelError, match=r"`layers` must be from 0 to 30 for this model, got \[31\]"):
        expose_hidden(untouched.clone(), [2, 31])


# Other forms.


@pytest.mark.parametrize("gathered", ["never", "before", "after"])
def test_explicit_equals_stateful_over_prefill_and_decoding(
    core: Any, untouched: Any, plain: Stateful, gathered: str
) -> None:
    changes: dict[str, list[Change]] = {
        "never": [to_explicit],
        "before": [gather_before_head, to_explicit],
        "after": [to_explicit, gather_before_head],
    }
    model = changed(untouched, *changes[gathered])
    names = {name for port in model.inputs for name in port.names}
    assert "beam_idx" not in names
    assert len([name for name in names if name.startswith("past_key_values.")]) == 2 * LAYERS
    request = core.compile_model(model, "CPU", EXACT).create_infer_request()
    sides = [f"{layer}.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]
    past = {f"past_key_values.{side}": np.zeros((2, 3, 0, 64), np.float32) for side in sides}
    ids = np.stack([PROMPT[:9], PROMPT[9:18]])
    length = 0
    for step in range(6):
        time = ids.shape[1]
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones((2, length + time), np.int64),
            "position_ids": np.tile(np.arange(length, length + time), (2, 1)),
        }
        if gathered != "never":
            feed["wanted_rows"] = np.arange(2 * time)
        answer = copied(request.infer({**feed, **past}))
        reference = plain(ids, fresh=step == 0)["logits"]
        np.testing.assert_allclose(answer["logits"].reshape(2, time, VOCAB), reference, atol=1e-3)
        past = {f"past_key_values.{side}": answer[f"present.{side}"] for side in sides}
        length += time
        ids = reference[:, -1].argmax(axis=-1)[:, None]
    assert past["past_key_values.29.value"].shape == (2, 3, 14, 64)


@pytest.mark.parametrize("order", ["before", "after"])
def test_paged_equals_stateful_over_ragged_prefill_and_decoding(
    core: Any, untouched: Any, plain: Stateful, order: str
) -> None:
    add: list[Change] = [add_statistics, lambda model: expose_hidden(model, [0, 11])]
    paged = Paged(core, changed(untouched, *([*add, to_paged] if order == "before" else [to_paged, *add])))
    texts = [PROMPT, np.tile(PROMPT[3:], 2)[:31]]  # the second one crosses a block of 32
    new, past = list(texts), [0, 0]
    for _ in range(5):
        ends = np.cumsum([len(ids) for ids in new]) - 1
        answer = paged(new, past, rows=ends)
        wanted = np.stack([plain(text[None])["logits"][0, -1] for text in texts])
        np.testing.assert_allclose(answer["logits"], wanted, atol=1e-3)
        np.testing.assert_allclose(answer["logsumexp"], logsumexp(wanted, axis=1), rtol=1e-4)
        past = [len(text) for text in texts]
        new = [row.argmax(keepdims=True) for row in wanted]
        texts = [np.append(text, ids) for text, ids in zip(texts, new, strict=True)]
    assert answer["hidden.0"].shape == answer["hidden.11"].shape == (2, HIDDEN)


def test_hidden_states_are_the_same_when_paged(core: Any, everything: Any, answers: dict[str, Array]) -> None:
    found = Paged(core, to_paged(everything))([PROMPT], [0])
    for name in (f"hidden.{layer}" for layer in range(LAYERS + 1)):
        scale = np.abs(answers[name]).max()
        np.testing.assert_allclose(found[name] / scale, answers[name] / scale, atol=1e-4)


def test_cache_layouts_are_read_off_the_compiled_model(core: Any, untouched: Any) -> None:
    compiled = core.compile_model(to_paged(untouched), "CPU", EXACT)
    key, value = cache_layouts(compiled)
    assert key.block == value.block == (3, 32, 64)
    assert key.block_bytes == 3 * 32 * 64 * 4
    assert (key.ports[0], value.ports[-1], len(key.ports)) == ("key_cache.0", "value_cache.29", LAYERS)
    assert page_size(key, value) == 32


@pytest.mark.parametrize(
    ("key", "value", "kind", "tokens"),
    [
        ((3, 32, 64), (3, 32, 64), "f32", 32),
        ((3, 16, 64), (3, 16, 64), "bf16", 16),
        ((3, 40, 64), (3, 32, 72), "u8", 32),  # the CPU's: 8 rows are the scales of each channel
        ((3, 32, 72), (3, 32, 72), "u8", 32),
        ((3, 64, 16), (3, 16, 64), "f16", None),  # the GPU's: keys are transposed
        ((3, 16, 64), (3, 32, 64), "u8", None),
        ((32, 64), (32, 64), "f32", None),
    ],
)
def test_the_page_size_is_read_off_the_layouts(
    key: tuple[int, ...], value: tuple[int, ...], kind: str, tokens: int | None
) -> None:
    """It was taken to be 32 whatever the device."""
    import openvino as ov

    layouts = [CacheLayout(("cache.0",), block, getattr(ov.Type, kind)) for block in (key, value)]
    if tokens is None:
        with pytest.raises(PagingUnsupported, match="a block of the cache must have the shape"):
            page_size(*layouts)
    else:
        assert page_size(*layouts) == tokens


def test_only_a_stateful_model_is_paged_or_made_explicit(untouched: Any) -> None:
    with pytest.raises(PagingUnsupported, match="explicit"):
        to_paged(to_explicit(untouched))
    with pytest.raises(ModelError, match="paged"):
        to_explicit(to_paged(untouched))


def test_a_transformation_that_is_gone_is_reported(untouched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino._offline_transformations", None)
    with pytest.raises(PagingUnsupported, match="no paged attention"):
        to_paged(untouched)


def test_a_transformation_that_fails_is_reported_and_the_model_kept(
    untouched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model: Any) -> None:
        raise RuntimeError("pattern not found")

    monkeypatch.setattr("openvino._offline_transformations.paged_attention_transformation", fails)
    with pytest.raises(PagingUnsupported, match="pattern not found"):
        to_paged(untouched)
    assert model_form(untouched) == "stateful"
