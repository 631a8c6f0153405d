"""What a user names is found, or the error says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from test_folder import graph, make_folder
from tiny_gguf import write_tiny

from ovdecode.errors import ModelError
from ovdecode.models import ModelFolder, cache_folder, locate


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVDECODE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str] | Exception]:
    """A hub of our own: the files of each repository, or the error it answers with."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    repositories: dict[str, list[str] | Exception] = {}

    def list_repo_files(self: object, repository: str) -> list[str]:
        answer = repositories[repository]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def snapshot_download(repository: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        assert "*.py" not in allow_patterns
        folder = tmp_path / "hub" / repository
        if local_files_only and not folder.is_dir():
            raise LocalEntryNotFoundError("not cached")
        if not local_files_only:
            folder.parent.mkdir(parents=True)
            make_folder(folder)
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_repo_files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return repositories


def test_the_default_model(smollm2_folder: ModelFolder) -> None:
    assert smollm2_folder.name == "smollm2"
    assert smollm2_folder.eos_token_ids == (2,)
    assert smollm2_folder.vocab_size == 49152
    assert smollm2_folder.context_length == 8192
    assert locate() == smollm2_folder


def test_a_folder(tmp_path: Path) -> None:
    assert locate(make_folder(tmp_path / "m")).path == tmp_path / "m"
    assert locate(str(tmp_path / "m")).name == "m"


def test_a_graph_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "decoder.xml").write_text(graph())
    (tmp_path / "decoder.bin").write_bytes(bytes(16))
    assert locate(tmp_path / "decoder.xml").xml == tmp_path / "decoder.xml"


def test_a_gguf_file_is_converted_once_under_the_cache(tmp_path: Path, cache: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    folder = locate(source)
    assert folder.name == "tiny"
    assert folder.path.is_relative_to(cache)
    made = folder.xml.stat().st_mtime_ns
    assert locate(source).xml.stat().st_mtime_ns == made
    assert locate(source, weights="f16").path != folder.path


def test_progress_is_told_on_standard_error_only(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    locate(source)  # not a terminal: quiet
    locate(source, weights="f16", progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("Converting tiny.gguf") == 1


@pytest.mark.parametrize("name", ["smolm2", "smollm", "SmolLM2", "smollm-2"])
def test_a_name_that_comes_near(name: str) -> None:
    with pytest.raises(ModelError, match=r"Did you mean `smollm2`\?"):
        locate(name)


def test_a_path_that_comes_near(tmp_path: Path) -> None:
    make_folder(tmp_path / "qwen3-int8")
    with pytest.raises(ModelError, match=r"Did you mean `.*/qwen3-int8`\?"):
        locate(tmp_path / "qwen3-int4")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "nothing-like-it", "a/b.gguf", "x.xml"])
def test_nothing_there(name: str) -> None:
    with pytest.raises(ModelError, match="there is nothing of that name"):
        locate(name)


@pytest.mark.parametrize("name", ["a" * 5000, "a" * 5000 + "/b.xml", "a\0b"])
def test_what_no_path_can_be(name: str) -> None:
    with pytest.raises(ModelError, match="there is nothing of that name") as caught:
        locate(name)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("source", [None, 5, b"smollm2"])
def test_what_is_no_name(source: Any) -> None:
    with pytest.raises(ModelError, match="`source` must be a name or a path, got"):
        locate(source)


def test_an_empty_name() -> None:
    with pytest.raises(ModelError, match="it is empty"):
        locate("")


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelError, match="it is another file"):
        locate(tmp_path / "model.onnx")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OVDECODE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ModelError, match="OVDECODE_CACHE"):
        locate("smollm2")


def test_the_cache_is_the_users_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVDECODE_CACHE", raising=False)
    assert cache_folder().name == "ovdecode"
    monkeypatch.setenv("OVDECODE_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


def test_an_openvino_repository(hub: dict[str, list[str] | Exception]) -> None:
    hub["org/model-ov"] = ["openvino_model.xml", "openvino_model.bin"]
    folder = locate("org/model-ov", progress=False)
    assert folder.name == "org/model-ov"
    assert folder.xml.is_file()


def test_a_repository_of_another_kind_gets_the_exact_command(hub: dict[str, list[str] | Exception]) -> None:
    hub["org/model"] = ["model.safetensors", "config.json"]
    with pytest.raises(ModelError, match=r"optimum-cli export openvino --model org/model model .*ovdecode\[export\]"):
        locate("org/model")


def test_a_repository_that_does_not_exist(hub: dict[str, list[str] | Exception]) -> None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    response = MagicMock(status_code=401)
    hub["org/typo"] = RepositoryNotFoundError("401", response=response)
    with pytest.raises(ModelError, match="local folder or a repository on the hub, but it is neither"):
        locate("org/typo")
    hub["org/gated"] = GatedRepoError("403", response=response)
    with pytest.raises(ModelError, match="asks for consent"):
        locate("org/gated")


def test_a_hub_out_of_reach(hub: dict[str, list[str] | Exception], tmp_path: Path) -> None:
    hub["org/model"] = ConnectionError("no route")
    with pytest.raises(ModelError, match=r"the hub cannot be reached \(ConnectionError: no route\)"):
        locate("org/model")
    (tmp_path / "hub" / "org").mkdir(parents=True)
    make_folder(tmp_path / "hub" / "org" / "model")
    assert locate("org/model").name == "org/model"
