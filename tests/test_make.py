"""What `make` passes on, and to whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RECORDER = """#!/bin/sh
# Stands in for python3: keeps the prompt and the arguments that make passed.
[ "$1" = -c ] && exit 0
printf '%s' "${LUCIE_PROMPT-unset}" > "$RECORD"
printf '%s\\n' "$@" > "$RECORD.args"
"""


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Python, and an empty folder to run make in."""
    path = tmp_path / "python"
    path.write_text(RECORDER, encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no make had started these tests."""
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "LUCIE_PROMPT", "PROMPT"):
        monkeypatch.delenv(name, raising=False)


def make(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-f", str(ROOT / "Makefile"), *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "prompt",
    [
        "plain words",
        "$HOME $(HOME) $$ $(shell touch pwned) ${x}",
        "'single' \"double\" `touch pwned` ; touch pwned",
        "Déjà vu ? — l’été 🍓 \\n #tag % *",
        "--help",
    ],
)
def test_make_chat_passes_the_prompt_letter_by_letter(prompt: str, recorder: Path) -> None:
    done = make("chat", f"PYTHON={recorder}", f"PROMPT={prompt}")
    assert done.returncode == 0, done.stderr
    assert Path("record").read_text("utf-8") == prompt
    assert Path("record.args").read_text("utf-8") == "-m\nedge.bootstrap\nchat\n"
    assert not Path("pwned").exists()


def test_a_prompt_of_the_shell_is_not_ours(recorder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPT", "%n@%m $(shell touch pwned)")
    assert make("chat", f"PYTHON={recorder}").returncode == 0
    assert Path("record").read_text("utf-8") == "unset"
    assert not Path("pwned").exists()


def test_says_that_python_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python"
    pretend = "import sys; sys.version_info = (3, 9, 2); $2"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{pretend}"\n', encoding="utf-8")
    old.chmod(0o755)
    done = make("chat", f"PYTHON={old}")
    assert done.returncode == 2
    assert "Lucie needs Python 3.11 or newer; this is 3.9." in done.stderr
    assert "Lucie demande Python 3.11 ou plus ; celui-ci est 3.9." in done.stderr
