"""The virtual environment: made once, renewed when need be, never taken for finished too early."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from edge.bootstrap import build, environment, programs
from edge.errors import LucieError

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "small"
version = "1.0"
"""
# The least build backend (PEP 517, PEP 660): it needs nothing from a network.
BACKEND = """
import os, shutil
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "small-1.0-py3-none-any.whl"
    return shutil.copyfile(name, os.path.join(folder, name)) and name
build_editable = build_wheel
"""


def pack(path: Path, name: str) -> None:
    """A wheel with one empty module."""
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nProvides-Extra: dev\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project that installs without a network, and a wheel in the place of llama.cpp's."""
    pack(tmp_path / "engine-1.0-py3-none-any.whl", "engine")
    monkeypatch.setenv("LUCIE_WHEEL", str(tmp_path / "engine-1.0-py3-none-any.whl"))
    folder = tmp_path / "project"
    folder.mkdir()
    pack(folder / "small-1.0-py3-none-any.whl", "small")
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "backend.py").write_text(BACKEND, encoding="utf-8")
    return folder


def test_the_environment_is_made_once_and_renewed_when_need_be(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = project / ".venv" / "lucie.json"

    (project / "backend.py").write_text("raise SystemExit(1)", encoding="utf-8")
    with pytest.raises(build.BuildError, match=r"install\.log"):
        environment.prepare(project)
    assert not stamp.exists()
    (project / "backend.py").write_text(BACKEND, encoding="utf-8")

    program = environment.prepare(project)
    subprocess.run([program, "-c", "import engine, small"], check=True)
    assert capsys.readouterr().err.count("Making the environment") == 2, "not half of one"

    assert environment.prepare(project) == program
    assert capsys.readouterr().err == "", "nothing is done twice"

    environment.prepare(project, ["dev"])
    said = capsys.readouterr().err
    assert "Installing" in said
    assert "Making" not in said
    environment.prepare(project)
    assert capsys.readouterr().err == "", "fewer extras are no reason to install"

    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    environment.prepare(project)
    assert "Installing" in capsys.readouterr().err
    assert json.loads(stamp.read_text("utf-8"))["extras"] == ["dev"], "what was there stays"


def test_says_that_debian_has_venv_in_a_package(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LucieError, match="apt install python3-venv"):
        environment.prepare(project)


def test_says_which_programs_the_tests_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LucieError, match="apt install tmux strace iproute2 util-linux"):
        programs.require()
