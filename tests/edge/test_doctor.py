from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edge.build_check
import edge.device
from edge.build_check import Build, check_build
from edge.commands.doctor import doctor
from edge.device import Remark, detect
from edge.store import DEFAULT_MODEL, Store
from tests.edge.gguf_files import tiny
from tests.edge.machines import PI_5, PI_ZERO_2, Tree, plant

WIDTH = 80
HEIGHT = 24


@pytest.fixture
def default_model(model_path: Path) -> Path:
    """The default model in the store, without the second that copying it takes."""
    folder = Store().root / DEFAULT_MODEL
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "model.gguf").symlink_to(model_path)
    return model_path


@pytest.fixture
def run() -> Callable[..., Any]:
    def run(*args: str) -> Any:
        return CliRunner().invoke(doctor, args, catch_exceptions=False)

    return run


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Make this machine look like another, with an engine built for it."""

    def pretend(*trees: Tree) -> None:
        found = detect(plant(tmp_path / "machine", *trees))
        monkeypatch.setattr(edge.device, "detect", lambda: found)
        build = Build("llama-cpp-python 0.3.36", ("NEON",), Remark("doctor.build-right", {}))
        monkeypatch.setattr(edge.build_check, "check_build", lambda _: build)

    return pretend


def test_this_machine_with_the_default_model(run: Callable[..., Any], default_model: Path) -> None:
    ran = run()
    assert ran.exit_code == 0
    assert "llama-cpp-python 0.3.36 built for this processor" in ran.stdout
    assert f"How {DEFAULT_MODEL} is loaded" in ran.stdout
    data = json.loads(run("--json").stdout)
    assert data["engine"]["usable"]
    assert data["plan"]["model"] == DEFAULT_MODEL
    options = data["plan"]["options"]
    assert options["threads"] <= options["threads_batch"] <= len(os.sched_getaffinity(0))
    assert data["plan"]["reasons"].keys() == options.keys()
    assert data["plan"]["needed"]["weights"] == default_model.stat().st_size
    assert data["models"][0]["fits"]
    assert data["memory"]["available"] > 0


@pytest.mark.parametrize("lang", ["en", "fr"])
@pytest.mark.parametrize("tree", [PI_5, PI_ZERO_2], ids=["pi5", "zero2"])
def test_a_board_fits_one_screen_in_both_languages(
    run: Callable[..., Any],
    pretend: Callable[..., None],
    default_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    lang: str,
    tree: Tree,
) -> None:
    pretend(tree)
    monkeypatch.setenv("LUCIE_LANG", lang)
    lines = run().stdout.splitlines()
    assert len(lines) < HEIGHT
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)


def test_what_a_small_board_can_and_cannot(
    run: Callable[..., Any], pretend: Callable[..., None], default_model: Path
) -> None:
    pretend(PI_ZERO_2)
    shown = run().stdout
    assert "Raspberry Pi Zero 2 W" in shown
    assert "49 °C, not slowed down" in shown
    rows = {row["name"]: row["fits"] for row in json.loads(run("--json").stdout)["models"]}
    assert rows == {
        DEFAULT_MODEL: True,
        "lucie-7b-instruct-v1.1": False,
        "luciole-1b-instruct": False,
    }
    assert "too large for the memory that is free" in shown


def test_warnings_stand_at_the_end(run: Callable[..., Any], pretend: Callable[..., None]) -> None:
    pretend(PI_5, {"sys/class/thermal/thermal_zone0/temp": "84000\n"})
    shown = run().stdout.rstrip().splitlines()
    assert shown[-1].startswith("! The processor is at 84 °C")
    assert json.loads(run("--json").stdout)["warnings"]


def test_without_a_model_it_says_how_to_get_one(
    run: Callable[..., Any], pretend: Callable[..., None]
) -> None:
    pretend(PI_5)
    ran = run()
    assert ran.exit_code == 0
    assert f"lucie models add {DEFAULT_MODEL}" in ran.stdout
    assert json.loads(run("--json").stdout)["plan"] is None


def test_a_model_that_would_be_killed_is_explained_with_the_figures(
    run: Callable[..., Any], pretend: Callable[..., None], default_model: Path
) -> None:
    pretend(PI_ZERO_2, {"proc/meminfo": "MemTotal: 425984 kB\nMemAvailable: 150000 kB\n"})
    shown = run().stdout
    assert "needs" in shown
    assert "here, but too large" in shown
    assert json.loads(run("--json").stdout)["models"][0]["problem"]


def test_the_first_model_is_explained_where_the_default_is_not_here(
    run: Callable[..., Any], pretend: Callable[..., None], tmp_path: Path
) -> None:
    Store().add(str(tiny("llama").write(tmp_path / "toy.gguf")))
    pretend(PI_5)
    assert "How toy is loaded" in run().stdout


def test_the_engine_that_is_installed_is_built_for_this_machine() -> None:
    build = check_build(detect().cpu)
    assert build.usable
    assert build.version.startswith("llama-cpp-python ")
    assert build.remark.code == "doctor.build-right"


def test_nothing_is_imported_from_the_folder_that_the_user_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tomllib.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert check_build(detect().cpu).usable


def test_a_build_for_another_processor_is_told_apart() -> None:
    cpu = detect().cpu
    slow = check_build(replace(cpu, flags=cpu.flags | {"sve", "i8mm"}))
    assert slow.remark.code == "doctor.build-slow"
    assert "SVE" in str(slow.remark)
    foreign = check_build(replace(cpu, flags=frozenset()))
    assert foreign.remark.code == "doctor.build-foreign"
    assert foreign.usable


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("import os; os.kill(os.getpid(), 4)", "build-illegal", "another processor"),
        ("raise SystemExit('no such library')", "build-broken", "no such library"),
        ("import no_such_module", "build-broken", "no_such_module"),
    ],
)
def test_an_engine_that_dies_is_reported_and_ends_with_1(
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    code: str,
    words: str,
) -> None:
    monkeypatch.setattr(edge.build_check, "_PROGRAM", program)
    build = check_build(detect().cpu)
    assert (build.usable, build.remark.code) == (False, f"doctor.{code}")
    ran = run()
    assert ran.exit_code == 1
    assert words in ran.stdout
