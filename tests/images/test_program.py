"""What a board has of Python."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from images.building.program import _pins, lay_out


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    engine, wheels = tmp_path / "engine", tmp_path / "wheels"
    (engine / "llama_cpp/lib").mkdir(parents=True)
    (engine / "llama_cpp/lib/libllama.so").touch()
    (wheels / "numpy/tests").mkdir(parents=True)
    (wheels / "numpy/__init__.py").touch()
    (wheels / "numpy/__init__.pyi").touch()
    lay_out(tmp_path / "site", engine, wheels)
    return tmp_path / "site"


def test_a_board_gets_the_versions_that_were_tested_here() -> None:
    pins = set(_pins("lucie-edge", "board"))
    for needed in ("pydantic", "pydantic-core", "textual", "numpy", "anyio", "tomlkit"):
        assert any(pin.lower().replace("_", "-") == f"{needed}=={version(needed)}" for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    assert "torch" not in names, "of an extra"
    assert "llama-cpp-python" not in names, "compiled for the board"
    assert "exceptiongroup" not in names, "of an older Python"


def test_it_has_the_commands_that_it_can_run_and_no_others(laid_out: Path) -> None:
    [info] = laid_out.glob("lucie_edge-*.dist-info")
    listed = (info / "entry_points.txt").read_text().splitlines()
    commands = {line.partition(" = ")[0] for line in listed if " = " in line}
    assert commands == {"lucie", "chat", "doctor", "models", "run", "serve"}


def test_it_has_what_it_runs_and_nothing_that_builds(laid_out: Path) -> None:
    assert (laid_out / "llama_cpp/lib/libllama.so").exists()
    assert (laid_out / "images/onboard/apply.py").exists()
    assert (laid_out / "edge/locale/cli.toml").exists()
    for left_out in (
        "images/building",
        "images/publishing",
        "edge/bootstrap",
        "numpy/tests",
        "numpy/__init__.pyi",
    ):
        assert not (laid_out / left_out).exists()


def test_what_starts_there_needs_nothing_else_of_ours(laid_out: Path) -> None:
    """The programs of `board/system/usr/bin` with what was laid out, and no checkout."""
    import subprocess

    code = "import edge.program, edge.cli, tui.command, images.onboard.apply"
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (laid_out / "numpy/__init__.py").unlink()
    (laid_out / "numpy").rmdir()
    path = f"import sys; sys.path[:0] = {[str(laid_out), *dependencies]}; "
    check = "; import edge; assert edge.__file__.startswith(sys.path[0]), edge.__file__"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", path + code + check], check=False,
                         capture_output=True, text=True, cwd=laid_out)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
