"""Where things live, on systems that have no /tmp."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge.paths import runtime_dir


def test_on_android_sockets_are_in_the_folder_of_termux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUCIE_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "android")
    assert runtime_dir() == tmp_path / f"lucie-edge-{os.getuid()}"
    assert runtime_dir().stat().st_mode & 0o777 == 0o700
