"""Closed and full standard streams, by the real program."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = "import sys; from edge.cli import main; sys.exit(main())"


def lucie(shell: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `lucie` with redirections that only a shell can make; arguments go by position."""
    script = f'exec "$0" -c "$1" {" ".join(args)} {shell}'
    command = ["sh", "-c", script, sys.executable, _PROGRAM]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("args", [("--help",), ("models", "list"), ("doctor", "--json")])
def test_a_full_output_is_one_line(args: tuple[str, ...]) -> None:
    done = lucie("> /dev/full", *args)
    assert done.stderr == "lucie: The output cannot be written: No space left on device.\n"
    assert done.returncode == 1


@pytest.mark.parametrize("args", [("--help",), ("models", "list"), ("doctor", "--json")])
def test_what_a_closed_output_loses_is_an_error(args: tuple[str, ...]) -> None:
    done = lucie(">&-", *args)
    assert done.stderr == "lucie: The output cannot be written: Bad file descriptor.\n"
    assert done.returncode == 1


def test_a_closed_input_is_as_an_empty_one() -> None:
    done = lucie("<&-", "run", "-")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("lucie: ")
    assert done.stderr.count("\n") == 1


def test_all_closed() -> None:
    assert lucie("<&- >&- 2>&-", "models", "list").returncode == 1
    assert lucie("<&- 2>&-", "models", "list").returncode == 0


def test_a_reader_that_leaves_early_is_no_error_to_speak_of() -> None:
    done = lucie("| true", "--help")
    assert done.stderr == ""


def test_what_a_screen_has_no_letter_for_is_a_question_mark() -> None:
    env = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "iso-8859-1", "LUCIE_LANG": "fr"}
    command = [sys.executable, "-c", _PROGRAM, "--help"]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "modèle".encode("iso-8859-1") in done.stdout
    assert re.search(rb"l\?[a-z]", done.stdout), "a typographic apostrophe"


@pytest.mark.parametrize("variable", ["LUCIE_HOME", "XDG_RUNTIME_DIR"])
def test_a_folder_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, model_path: Path, variable: str
) -> None:
    monkeypatch.delenv("LUCIE_HOME")
    monkeypatch.setenv(variable, "/dev/null")
    done = lucie("", "run", "Hi", "--model", str(model_path))
    assert done.returncode == 1
    assert done.stderr.startswith("lucie: The folder /dev/null/")
    assert done.stderr.count("\n") == 1


_AFTER_A_HANG_UP = """
import os, signal, sys
from edge import streams
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
sys.stdout.write("no newline: it stays in the buffer")
os.write(1, b"ready")
signal.sigwait({signal.SIGHUP})
streams.settle()
streams.tell("nobody is there")
sys.exit(5)
"""


def test_what_a_lost_terminal_cannot_take_changes_no_exit_code() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.pop("PYTHONUNBUFFERED", None)
        os.execv(sys.executable, [sys.executable, "-c", _AFTER_A_HANG_UP])
    while b"ready" not in os.read(terminal, 100):
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
