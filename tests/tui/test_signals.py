"""A chat that is ended from outside, in a real terminal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.tui.conftest import kept
from tests.tui.terminal import Terminal, scripted

SAVED = [[("user", "Hello", "complete"), ("assistant", "Half an answer", "stopped")]]


def in_mid_answer(path: Path, **environment: str) -> Terminal:
    terminal = scripted(path, **environment)
    terminal.read_until("talking to an AI")
    terminal.write("Hello\r")
    terminal.read_until("Half an answer")
    return terminal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_saves_and_leaves(path: Path, number: signal.Signals) -> None:
    terminal = in_mid_answer(path)
    os.kill(terminal.pid, number)
    assert terminal.wait() == 128 + number
    assert kept(path) == SAVED
    assert b"Traceback" not in terminal.output
    assert b"\x1b[?1049l" in terminal.output  # the screen was given back


def test_a_terminal_that_goes_away_costs_nothing(path: Path) -> None:
    terminal = in_mid_answer(path)
    terminal.hang_up()
    assert terminal.wait() == 128 + signal.SIGHUP
    assert kept(path) == SAVED


def test_a_terminal_that_takes_no_more_output_holds_nobody(path: Path, tmp_path: Path) -> None:
    terminal = in_mid_answer(path, LUCIE_LANG="en")
    os.kill(terminal.pid, signal.SIGTERM)  # and nothing is read from here on
    pid, status = 0, 0
    for _ in range(300):
        pid, status = os.waitpid(terminal.pid, os.WNOHANG)
        if pid:
            break
        signal.sigtimedwait([], 0.1)
    assert pid
    assert kept(path) == SAVED
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    terminal.hang_up()


def test_a_kill_leaves_what_was_written_two_seconds_before(path: Path) -> None:
    terminal = in_mid_answer(path)
    while not (path.exists() and kept(path) and len(kept(path)[0]) == 2 and kept(path)[0][1][1]):
        terminal._read(0.1)
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.wait() == -signal.SIGKILL
    assert kept(path) == [
        [("user", "Hello", "complete"), ("assistant", "Half an answer", "writing")]
    ]


@pytest.mark.parametrize("term", ["linux", "vt100", "xterm"])
def test_simple_terminals(path: Path, term: str) -> None:
    terminal = in_mid_answer(path, TERM=term, NO_COLOR="1" if term == "vt100" else "")
    terminal.write("\x11")  # Ctrl-Q
    assert terminal.wait() == 0
    # Only the 16 colours that such a terminal has.
    assert b"38;2;" not in terminal.output
    assert b"38;5;" not in terminal.output


def test_a_terminal_of_many_colours_has_ours(path: Path) -> None:
    terminal = in_mid_answer(path, COLORTERM="truecolor")
    terminal.write("\x11")  # Ctrl-Q
    assert terminal.wait() == 0
    assert b"48;2;21;23;28" in terminal.output
