"""The install script for Android, with programs in the place of Termux's that note their calls.

What those would do is not run here; images/README.md says where it was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path("images/termux/install.sh")
# Of `python -m edge.bootstrap`, which has tests of its own, there is left what it leaves.
PYTHON = """\
[ ! -e "$PREFIX/broken" ] || exit 1
mkdir -p .venv/bin
printf '#!/bin/sh\\necho "lucie, version 9"\\n' > .venv/bin/lucie
chmod +x .venv/bin/lucie
"""


@dataclass
class Phone:
    prefix: Path
    script: Path

    def program(self, name: str, does: str = "") -> None:
        path = self.prefix / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$PREFIX/calls"\n{does}\n')
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {
            "HOME": str(self.prefix),
            "PREFIX": str(self.prefix),
            "TERMUX_VERSION": "0.118.3",
            "PATH": f"{self.prefix}/bin:{os.environ['PATH']}",
            **environment,
        }
        command = ["sh", str(self.script), *arguments]
        return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True)

    def calls(self) -> list[str]:
        noted = self.prefix / "calls"
        lines = noted.read_text().splitlines() if noted.exists() else []
        return [line for line in lines if line.startswith(("pkg", "python"))]


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    script = tmp_path / "a project" / SCRIPT
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    made = Phone(tmp_path / "usr", script)
    made.program("pkg")
    made.program("python", PYTHON)
    made.program("uname", "echo aarch64")
    return made


def test_packages_then_the_chat_then_its_command(phone: Phone) -> None:
    ended = phone.run()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["lucie, version 9", "Ready: lucie"]
    update, install, chat = phone.calls()
    assert update == "pkg update -y"
    assert {"python", "python-numpy", "python-pydantic-core", "clang"} <= set(install.split())
    assert chat == "python -m edge.bootstrap ready"
    assert (phone.prefix / "bin/lucie").resolve().parent.parent.name == ".venv"


def test_after_a_failure_it_is_run_again(phone: Phone) -> None:
    (phone.prefix / "broken").touch()
    assert phone.run().returncode == 1
    assert not (phone.prefix / "bin/lucie").exists()
    (phone.prefix / "broken").unlink()
    for _ in range(2):
        assert phone.run().returncode == 0


@pytest.mark.parametrize(
    ("program", "environment", "said"),
    [
        ("", {"TERMUX_VERSION": ""}, "make chat"),
        ("", {"PREFIX": ""}, "make chat"),
        ("uname:echo armv8l", {}, "armv8l"),
        ("df:printf 'head\\n/dev/x 9 9 2048000 9 /\\n'", {}, "2000 MB are free"),
    ],
)
def test_where_it_cannot_work_nothing_is_begun(
    program: str, environment: dict[str, str], said: str, phone: Phone
) -> None:
    if program:
        phone.program(*program.split(":"))
    ended = phone.run(**environment)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert phone.calls() == []


def test_help_is_in_both_languages_and_wrong_use_is_told(phone: Phone) -> None:
    assert phone.run("--help").stdout.startswith("Usage: sh")
    assert "téléphone" in phone.run("--help", LANG="fr_FR.UTF-8").stdout
    wrong = phone.run("--halp")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Usage: sh")
    assert phone.calls() == []
