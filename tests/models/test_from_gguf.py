"""A GGUF file becomes the same model, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from tiny_gguf import mean_kl, model_logits, reference_logits, write_tiny

from ovdecode.errors import ConfigurationError, ModelError
from ovdecode.models import ModelFolder, convert_gguf, from_gguf
from ovdecode.models.fetch import fetch_smollm2
from ovdecode.models.folder import read_folder
from ovdecode.models.huggingface_tokenizer import HuggingFaceTokenizer
from ovdecode.models.source import cache_folder

FILES = {*from_gguf.FILES, "ovdecode.json"}
TOKENS = [0, *b"the quick brown fox", 5, 250, 260, 17, 17]
PARAGRAPH = (
    "The lighthouse keeper wrote in his log that the storm had come from the north, earlier than any of"
    " the old sailors expected. By noon the sea was the colour of slate, and two fishing boats were "
    "still missing. He lit the lamp at 3:40, five hours before sunset, and sent his daughter to ring "
    "the bell. What else could they do? In the village, people said that light travels about 300,000 "
    "kilometres in a second, but that hope is slower: it has to climb 128 steps, carrying oil. When the"
    " first mast appeared behind the rocks, nobody cheered; they were counting.\n\nYears later, a "
    "programmer turned the log into a table with columns for wind, pressure and the number of ships "
    "that came home."
)


def script_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def conversion_script(source: Path, target: Path) -> list[str]:
    code = (
        "from pathlib import Path; from ovdecode.models import convert_gguf; "
        f"convert_gguf(Path({str(source)!r}), Path({str(target)!r}))"
    )
    return [sys.executable, "-c", code]


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if ".part-" in entry.name]


def test_the_default_model_keeps_its_distributions(smollm2_folder: ModelFolder) -> None:
    """Read directly, this Q4_1 file gave a mean KL of 0.56 and a top-1 agreement of 65 %."""
    tokens = HuggingFaceTokenizer(smollm2_folder).encode(PARAGRAPH)
    source = fetch_smollm2(cache_folder())
    reference = reference_logits(source, tokens)
    logits = model_logits(smollm2_folder.path, tokens)
    agreement = (reference.argmax(-1) == logits.argmax(-1)).mean()
    divergence = mean_kl(reference, logits)
    report = f"mean KL {divergence:.5f}, top-1 agreement {agreement:.1%} over {len(tokens)} tokens"
    assert divergence <= 0.005, report
    assert agreement >= 0.95, report


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q5_1, Kind.Q8_0, Kind.BF16, Kind.F16, Kind.F32])
def test_every_source_type_keeps_its_distributions(tmp_path: Path, kind: Kind) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", kind=kind)
    reference = reference_logits(source, TOKENS)
    assert mean_kl(reference, model_logits(convert_gguf(source, tmp_path / "int8"), TOKENS)) < 0.005
    assert mean_kl(reference, model_logits(convert_gguf(source, tmp_path / "f16", "f16"), TOKENS)) < 1e-5


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_other_architectures_keep_their_distributions(tmp_path: Path, architecture: str) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", architecture=architecture, pre="qwen2")
    folder = convert_gguf(source, tmp_path / "out", "f16")
    assert mean_kl(reference_logits(source, TOKENS), model_logits(folder, TOKENS)) < 1e-5


def test_the_folder_holds_all_files_and_nothing_else(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", metadata={"tokenizer.ggml.eot_token_id": 2})
    target = convert_gguf(source, tmp_path / "deep" / "er" / "out")
    assert {entry.name for entry in target.iterdir()} == FILES
    assert leftovers(target.parent) == []
    folder = read_folder(target)
    assert folder.eos_token_ids == (1, 2)
    assert folder.context_length == 64
    assert folder.vocab_size == 288
    assert json.loads((target / "config.json").read_text())["model_type"] == "llama"
    marker = json.loads((target / "ovdecode.json").read_text())
    assert marker["source"] == "tiny.gguf"
    assert marker["weights"] == "int8"
    assert set(marker["versions"]) >= {"openvino", "openvino-genai"}


def test_a_finished_conversion_is_not_done_again(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    target = convert_gguf(source, tmp_path / "out")
    made = (target / "openvino_model.bin").stat().st_mtime_ns
    convert_gguf(source, target)
    assert (target / "openvino_model.bin").stat().st_mtime_ns == made


@pytest.mark.parametrize("name", ["openvino_model.bin", "tokenizer.json"])
def test_a_damaged_conversion_is_made_again(tmp_path: Path, name: str) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    target = convert_gguf(source, tmp_path / "out")
    whole = (target / name).read_bytes()
    (target / name).write_bytes(whole[:100])
    assert (convert_gguf(source, target) / name).stat().st_size == len(whole)


def test_another_source_replaces_an_earlier_conversion(tmp_path: Path) -> None:
    target = convert_gguf(write_tiny(tmp_path / "one.gguf"), tmp_path / "out")
    convert_gguf(write_tiny(tmp_path / "two.gguf", kind=Kind.Q8_0), target)
    assert json.loads((target / "ovdecode.json").read_text())["source"] == "two.gguf"
    assert leftovers(tmp_path) == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="must be empty or an earlier conversion"):
        convert_gguf(write_tiny(tmp_path / "tiny.gguf"), target)
    assert (target / "thesis.tex").read_text() == "years of work"


def test_unknown_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`weights` must be `int8` or `f16`, but it is `int3`"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "out", "int3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma"}, "llama, qwen2 or qwen3, but it is `gemma`"),
        ({"extra_tensor": "rope_freqs.weight"}, "`rope_freqs.weight`"),
        ({"metadata": {"llama.rope.scaling.type": "yarn"}}, "`yarn`"),
        ({"metadata": {"split.count": 3}}, "one of 3 parts"),
        ({"pre": "deepseek-v3"}, "it is `deepseek-v3`"),
        ({"pre": None}, "it is `None`"),
        ({"vocabulary": "llama"}, "`tokenizer.ggml.model` must be `gpt2`"),
    ],
)
def test_what_would_be_converted_wrongly_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message):
        convert_gguf(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        convert_gguf(tmp_path / "absent.gguf", tmp_path / "out")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    with pytest.raises(ModelError, match="begins with b'<htm'"):
        convert_gguf(tmp_path / "page.gguf", tmp_path / "out")


@pytest.mark.parametrize("kept", [10, 2000, 0.6, 0.999])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    whole = write_tiny(tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    with pytest.raises(ModelError, match="cut short"):
        convert_gguf(tmp_path / "short.gguf", tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", kind=Kind.F32)
    content = bytearray(source.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    source.write_bytes(content)
    with pytest.raises(ModelError, match=r"`blk\.1\.ffn_down.weight` must hold finite numbers"):
        convert_gguf(source, tmp_path / "out")


@pytest.mark.parametrize("package", ["gguf", "openvino_genai"])
def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"needs `{package}`, .*pip install 'ovdecode\[gguf\]'"):
        convert_gguf(source, tmp_path / "out")


def test_a_conversion_that_is_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    target = tmp_path / "out"
    process = subprocess.Popen(conversion_script(source, target), env=script_environment())
    while not leftovers(tmp_path):  # it has begun to write
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert leftovers(tmp_path) != []
    convert_gguf(source, target)
    assert {entry.name for entry in target.iterdir()} == FILES
    assert leftovers(tmp_path) == []


def test_a_conversion_that_is_interrupted_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    source = write_tiny(tmp_path / "tiny.gguf")
    monkeypatch.setattr("ovdecode.models.from_gguf.write_openvino_tokenizers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert_gguf(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_two_processes_may_start_at_once(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    target = tmp_path / "out"
    command = conversion_script(source, target)
    both = [subprocess.Popen(command, env=script_environment()) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert {entry.name for entry in target.iterdir()} == FILES
    assert leftovers(tmp_path) == []
