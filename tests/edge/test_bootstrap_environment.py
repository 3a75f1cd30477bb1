"""The virtual environment: made once, renewed when need be, never taken for finished too early."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.bootstrap import build, environment, programs
from edge.bootstrap.__main__ import main
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


def test_on_android_pip_takes_what_the_system_has(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "run", lambda command, **_: commands.append(command))
    for platform in ("android", "linux"):
        commands.clear()
        monkeypatch.setattr(sys, "platform", platform)
        environment._create(project / ".venv")
        environment._install(Path("python"), project, ())
        made, *installed = commands
        there = platform == "android"
        assert ("--system-site-packages" in made) is there
        assert all(("numpy,pydantic-core" in command) is there for command in installed)


def made_by_another_python(stamp: Path) -> None:
    facts = json.loads(stamp.read_text("utf-8"))
    stamp.write_text(json.dumps(facts | {"python": "/usr/bin/python2"}), encoding="utf-8")


def imports(program: Path) -> bool:
    return subprocess.run([program, "-c", "import engine, small"], check=False).returncode == 0


def test_what_works_is_kept_until_its_successor_is_complete(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = environment.prepare(project)
    stamp = project / ".venv" / "lucie.json"
    made_by_another_python(stamp)
    facts = stamp.read_bytes()
    (project / "backend.py").write_text("raise SystemExit(1)", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(build.BuildError):
            environment.prepare(project)
        assert imports(program)
        assert stamp.read_bytes() == facts

    # As after a power cut while the new one is made.
    (project / ".venv").rename(project / ".venv.before")
    (project / ".venv" / "bin").mkdir(parents=True)
    with pytest.raises(build.BuildError):
        environment.prepare(project)
    assert imports(program)

    (project / "backend.py").write_text(BACKEND, encoding="utf-8")
    capsys.readouterr()
    environment.prepare(project)
    assert "Making" in capsys.readouterr().err
    assert imports(program)
    assert [path.name for path in project.glob(".venv*")] == [".venv"]


def test_an_update_that_fails_is_tried_again_in_place(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = environment.prepare(project)
    (project / "backend.py").write_text("raise SystemExit(1)", encoding="utf-8")
    text = (project / "pyproject.toml").read_text("utf-8")
    (project / "pyproject.toml").write_text(f"{text}# changed\n", encoding="utf-8")
    with pytest.raises(build.BuildError):
        environment.prepare(project)
    (project / "pyproject.toml").write_text(text, encoding="utf-8")
    with pytest.raises(build.BuildError):  # nobody knows what the failed one left
        environment.prepare(project)
    (project / "backend.py").write_text(BACKEND, encoding="utf-8")
    capsys.readouterr()
    environment.prepare(project)
    assert "Making" not in capsys.readouterr().err
    assert imports(program)


def test_an_activated_environment_is_no_other_python(project: Path) -> None:
    program = environment.prepare(project)
    root = Path(environment.__file__).parents[2]
    code = "import sys; from pathlib import Path; from edge.bootstrap import environment as e;"
    code += "print(e._facts(Path(sys.argv[1]))['python'])"
    told = subprocess.run(
        [program, "-c", code, str(project)], cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == json.loads((project / ".venv/lucie.json").read_text())["python"]


@pytest.mark.parametrize(
    ("errno", "told"),
    [(errno.ENOSPC, "The disk is full (/x)"), (errno.EROFS, "/x cannot be used (Read-only")],
)
def test_a_disk_that_takes_nothing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], errno: int, told: str
) -> None:
    def fail(*_: object) -> Path:
        raise OSError(errno, os.strerror(errno), "/x")

    monkeypatch.setattr(environment, "prepare", fail)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            main("chat")
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert caught.value.code == 1
    assert said.startswith(told)
    assert said.count("\n") == 1


def test_says_that_debian_has_venv_in_a_package(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LucieError, match="apt install python3-venv"):
        environment.prepare(project)


def test_says_which_programs_the_tests_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LucieError, match="apt install iproute2 mmdebstrap strace tmux util-linux"):
        programs.require()


@pytest.mark.parametrize(
    ("there", "known", "installed"),
    [
        ((), "chromium nodejs", "iproute2 mmdebstrap strace tmux util-linux chromium nodejs"),
        ((), "nodejs", "iproute2 mmdebstrap strace tmux util-linux nodejs"),
        (("google-chrome", "tmux"), "nodejs", "iproute2 mmdebstrap strace util-linux nodejs"),
        (("ip", "mmdebstrap", "strace", "tmux", "unshare"), "chromium nodejs", None),
    ],
    ids=["bare", "apt has no browser", "another browser", "nothing is needed"],
)  # fmt: skip
def test_a_bare_machine_gets_a_browser_with_what_the_tests_need(
    there: tuple[str, ...],
    known: str,
    installed: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripts = {
        "apt-get": f'echo "$*" >> {tmp_path / "said"}',
        "apt-cache": f'case " {known} " in *" $2 "*) ;; *) exit 100 ;; esac',
        **dict.fromkeys(there, "exit 1"),
    }
    for name, line in scripts.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    programs.require()
    if installed is None:
        assert not (tmp_path / "said").exists()
    else:
        update, install = (tmp_path / "said").read_text().splitlines()
        assert update == "update"
        assert install == f"install -y --no-install-recommends {installed}"
