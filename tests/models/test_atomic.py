"""Files that appear whole, whatever lies where they go."""

import os
import threading
from pathlib import Path

import pytest

from ovdecode.models.atomic import published


def write(target: Path, error: Exception | None = None) -> None:
    with published(target) as scratch:
        scratch.write_text("new")
        if error is not None:
            raise error


def test_a_file_takes_the_place_of_an_older_one(tmp_path: Path):
    (tmp_path / "out").write_text("old")
    write(tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "new"


def test_an_error_leaves_everything_as_it_was(tmp_path: Path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(KeyError):
        write(tmp_path / "out", KeyError())
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path, there: bool):
    target, link = tmp_path / "target", tmp_path / "link"
    if there:
        target.write_text("old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes by name")
def test_a_pipe_is_written_to_and_stays(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(10)
    assert read == ["new"]
    assert pipe.is_fifo()
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]


def test_a_folder_is_refused(tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError, match="out"):
        write(tmp_path / "out")
