"""What a board has of Python."""

from __future__ import annotations

import ast
import re
import subprocess
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
    for needed in ("pydantic", "pydantic-core", "textual", "numpy", "anyio", "segno", "tomlkit"):
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
    assert (laid_out / "edge/commands/run.py").exists()
    for left_out in (
        "images/building",
        "images/commands",
        "images/publishing",
        "images/locale/flash.toml",
        "edge/bootstrap",
        "edge/README.md",
        "numpy/tests",
        "numpy/__init__.pyi",
    ):
        assert not (laid_out / left_out).exists()


def test_what_is_there_needs_nothing_else_of_ours(laid_out: Path) -> None:
    """All of it is imported, with what was laid out and no checkout."""
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (laid_out / "numpy/__init__.py").unlink()
    (laid_out / "numpy").rmdir()
    (laid_out / "llama_cpp/lib/libllama.so").unlink()
    (laid_out / "llama_cpp/lib").rmdir()
    (laid_out / "llama_cpp").rmdir()
    path = f"import sys; sys.path[:0] = {[str(laid_out), *dependencies]}; "
    check = "import edge; assert edge.__file__.startswith(sys.path[0]), edge.__file__"
    code = f"import importlib; [importlib.import_module(name) for name in {modules(laid_out)}]; "
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", path + code + check], check=False,
                         capture_output=True, text=True, cwd=laid_out)  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_what_is_there_is_imported_by_something_there(laid_out: Path) -> None:
    """What only those import who build would make a system anew when it changes."""
    there = set(modules(laid_out))
    [info] = laid_out.glob("lucie_edge-*.dist-info")
    started = re.findall(r"= ([\w.]+):", (info / "entry_points.txt").read_text())
    ahead = [*started, *(name for name in there if name.startswith("images.onboard"))]
    reached = {"images.errors"}  # what is on a board may fail
    while ahead:
        name = ahead.pop()
        if name in there - reached:
            reached.add(name)
            ahead += [*imported(laid_out, name), name.rpartition(".")[0]]
    assert sorted(there - reached) == []


def modules(folder: Path) -> list[str]:
    """Ours that are in it."""
    files = [file for name in ("edge", "images", "tui") for file in (folder / name).rglob("*.py")]
    names = [".".join(file.relative_to(folder).with_suffix("").parts) for file in files]
    return sorted(name.removesuffix(".__init__") for name in names)


def imported(folder: Path, name: str) -> list[str]:
    """What a module imports, also late, or only to name a type."""
    place = folder.joinpath(*name.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module), *(f"{node.module}.{each.name}" for each in node.names)]
    return found
