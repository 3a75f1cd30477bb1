"""What outlasts a pulled plug."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge.durable import replace_file, sync_folder, sync_tree


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes of what is flushed, in order."""
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: inodes.append(os.fstat(descriptor).st_ino))
    return inodes


def test_a_folder_is_flushed_and_not_a_file_of_that_name(
    tmp_path: Path, flushed: list[int]
) -> None:
    sync_folder(tmp_path)
    assert flushed == [tmp_path.stat().st_ino]
    opened = {os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()}
    assert str(tmp_path.resolve()) not in opened
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")


def test_all_in_a_folder_is_flushed_and_each_file_before_its_name(
    tmp_path: Path, flushed: list[int]
) -> None:
    (tmp_path / "below").mkdir()
    files = [tmp_path / "a", tmp_path / "below" / "b"]
    for file in files:
        file.write_text(file.name)
    sync_tree(tmp_path)
    at = {
        path: flushed.index(path.stat().st_ino) for path in (*files, tmp_path / "below", tmp_path)
    }
    assert all(at[file] < at[file.parent] for file in files)
    assert at[tmp_path] == len(flushed) - 1


def test_a_disk_that_is_full_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "recipe.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        replace_file(tmp_path / "recipe.json", b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_replaced_file_is_flushed_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text("old")
    seen: list[tuple[bool, str]] = []

    def fsync(descriptor: int) -> None:
        folder = os.fstat(descriptor).st_ino == tmp_path.stat().st_ino
        seen.append((folder, path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(path, b"new")
    assert seen == [(False, "old"), (True, "new")]
    assert [each.name for each in tmp_path.iterdir()] == ["recipe.json"]
