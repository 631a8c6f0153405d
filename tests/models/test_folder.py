"""Model folders are checked before anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ovdecode.errors import ModelError
from ovdecode.models.folder import read_folder


def graph(size: int = 16) -> str:
    """The text of a model whose one constant ends at byte `size`."""
    return f'<?xml version="1.0"?>\n<net name="m" version="11"><layers><layer id="0" type="Const"><data element_type="f32" shape="4" offset="0" size="{size}" /></layer></layers></net>\n'  # noqa: E501


def make_folder(path: Path, **configs: dict[str, object]) -> Path:
    path.mkdir(exist_ok=True)
    (path / "openvino_model.xml").write_text(graph())
    (path / "openvino_model.bin").write_bytes(bytes(16))
    for name, content in configs.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_a_whole_folder_is_read(tmp_path: Path) -> None:
    folder = read_folder(
        make_folder(
            tmp_path / "model",
            config={"eos_token_id": 2, "vocab_size": 9, "max_position_embeddings": 64},
        )
    )
    assert folder.name == "model"
    assert folder.xml == tmp_path / "model" / "openvino_model.xml"
    assert folder.eos_token_ids == (2,)
    assert (folder.vocab_size, folder.context_length) == (9, 64)


def test_the_eos_ids_of_both_files_count(tmp_path: Path) -> None:
    configs = {"config": {"eos_token_id": [2, 5]}, "generation_config": {"eos_token_id": [7, 2]}}
    assert read_folder(make_folder(tmp_path, **configs)).eos_token_ids == (7, 2, 5)  # type: ignore[arg-type]


def test_the_text_part_of_a_larger_configuration_counts(tmp_path: Path) -> None:
    folder = read_folder(make_folder(tmp_path, config={"text_config": {"eos_token_id": 3, "vocab_size": 8}}))
    assert (folder.eos_token_ids, folder.vocab_size) == ((3,), 8)


def test_the_tokenizer_tells_the_eos_id_if_nothing_else_does(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "openvino_tokenizer.xml").write_text('<net><rt_info><eos_token_id value="11" /></rt_info></net>')
    assert read_folder(tmp_path).eos_token_ids == (11,)


def test_a_folder_without_configuration_says_nothing(tmp_path: Path) -> None:
    folder = read_folder(make_folder(tmp_path))
    assert (folder.eos_token_ids, folder.context_length, folder.vocab_size) == ((), None, None)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        read_folder(tmp_path / "absent")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="it is a file"):
        read_folder(tmp_path / "file")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is empty"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model.safetensors", "optimum-cli export openvino --model"),
        ("model.gguf", "give its path"),
        ("decoder.xml", "give its path"),
        ("notes.txt", "Check the path"),
    ],
)
def test_a_folder_of_another_kind(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match=rf"must hold `openvino_model.xml`, but it holds only {name}.*{advice}"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", ["", "<html></html>", graph()[:100]])
def test_a_corrupt_graph(tmp_path: Path, content: str) -> None:
    make_folder(tmp_path)
    (tmp_path / "openvino_model.xml").write_text(content)
    with pytest.raises(ModelError, match="a whole `<net>` element"):
        read_folder(tmp_path)


def test_missing_weights(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "openvino_model.bin").unlink()
    with pytest.raises(ModelError, match=r"openvino_model.bin` must hold the model's weights, but it is missing"):
        read_folder(tmp_path)


def test_weights_cut_short(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "openvino_model.bin").write_bytes(bytes(7))
    with pytest.raises(ModelError, match="at least 16 bytes, but it has 7"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_corrupt_configuration(tmp_path: Path, content: str) -> None:
    make_folder(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config.json` must"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"text_config": [1]}, r"`text_config` in `.*config.json` must be an object, but it is \[1\]"),
        ({"vocab_size": "x"}, "`vocab_size` in .* must be a whole number of at least 1, but it is 'x'"),
        ({"max_position_embeddings": "many"}, "`max_position_embeddings` .* at least 1, but it is 'many'"),
        ({"max_position_embeddings": -5}, "`max_position_embeddings` .* at least 1, but it is -5"),
        ({"max_position_embeddings": [1]}, "`max_position_embeddings` .* at least 1"),
        ({"eos_token_id": "<end>"}, "`eos_token_id` .* must be token ids, whole numbers of at least 0, but it is"),
        ({"eos_token_id": -1}, "`eos_token_id` .* at least 0, but it is -1"),
        ({"eos_token_id": {"a": 1}}, "`eos_token_id` .* must be token ids"),
        ({"eos_token_id": True}, "`eos_token_id` .* must be token ids"),
        ({"eos_token_id": [2, 9], "vocab_size": 9}, r"`eos_token_id` .* between 0 and 8, but it is \[2, 9\]"),
    ],
)
def test_a_configuration_that_says_what_can_not_be(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_folder(make_folder(tmp_path, config=config))


def test_the_eos_ids_for_generation_are_checked_too(tmp_path: Path) -> None:
    configs: dict[str, dict[str, object]] = {"config": {"vocab_size": 9}, "generation_config": {"eos_token_id": 9}}
    with pytest.raises(ModelError, match=r"`eos_token_id` in `.*generation_config.json` .* between 0 and 8"):
        read_folder(make_folder(tmp_path, **configs))


def test_a_text_part_of_null_is_none(tmp_path: Path) -> None:
    folder = read_folder(make_folder(tmp_path, config={"text_config": None, "eos_token_id": 3}))
    assert folder.eos_token_ids == (3,)


def test_the_length_of_the_weights_is_read_as_openvino_writes_it(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13

    constant = opset13.constant(np.arange(1000, dtype=np.float32))
    parameter = opset13.parameter([1000], np.float32)
    model = openvino.Model([opset13.add(parameter, constant)], [parameter])
    openvino.save_model(model, tmp_path / "openvino_model.xml", compress_to_fp16=False)
    weights = tmp_path / "openvino_model.bin"
    read_folder(tmp_path)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="cut short"):
        read_folder(tmp_path)
