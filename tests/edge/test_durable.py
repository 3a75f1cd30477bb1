"""What outlasts a pulled plug."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.durable import sync_folder


def test_a_folder_is_flushed_and_not_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    before = len(list(Path("/proc/self/fd").iterdir()))
    sync_folder(tmp_path)
    assert flushed == [tmp_path.stat().st_ino]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
