"""The parts of a long work, as they stand on a terminal."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace

import pyte
import pytest

from edge.bootstrap import build, moving
from edge.errors import InterruptedByUserError
from images.commands.parts import Parts


class Terminal(io.StringIO):
    """What is written to one, and how it looks there."""

    now = 0.0

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        screen = pyte.Screen(80, 24)
        pyte.Stream(screen).feed(self.getvalue().replace("\n", "\r\n"))
        return [line.rstrip() for line in screen.display if line.strip()]

    def wait_for(self, line: str) -> None:
        for _ in range(50):
            if line in self.lines():
                return
            time.sleep(0.1)
        raise AssertionError(self.lines())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """One whose clock stands still until it is set."""
    made = Terminal()
    monkeypatch.setattr(moving, "sys", SimpleNamespace(stderr=made))
    monkeypatch.setattr(moving, "_LIVE_SECONDS", 0.05)
    monkeypatch.setattr(moving, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setenv("COLUMNS", "80")
    return made


def test_a_part_that_tells_nothing_moves(terminal: Terminal) -> None:
    with Parts("build") as parts:
        parts("unpack")
        terminal.now = 62.0
        terminal.wait_for("System: unpacking  1:02")
        parts("pack")
        terminal.now = 65.0
        terminal.wait_for("System: read-only file system  0:03")
        assert parts.title("engine") == "llama.cpp for the board"
        assert not moving._unfinished, "what shows by itself how far it is has the line"
        parts("disk")
    assert terminal.lines() == [
        "System: unpacking  1:02",
        "System: read-only file system  0:03",
        terminal.lines()[2],
    ]
    assert terminal.lines()[2].startswith("Card: partitions")
    assert not moving._unfinished


def test_what_others_say_meanwhile_stands_above(terminal: Terminal, tmp_path: Path) -> None:
    def work() -> None:
        with Parts("build") as parts:
            parts("unpack")
            terminal.now = 7.0
            terminal.wait_for("System: unpacking  0:07")
            moving.show("Somebody else is waited for")
            build.run(["sh", "-c", "echo error: it is broken; exit 3"], log=tmp_path / "log")

    with pytest.raises(build.BuildError):
        work()
    assert terminal.lines() == [
        "Somebody else is waited for",
        "    error: it is broken",
        "System: unpacking  0:07",
    ]
    assert terminal.getvalue().endswith("\n"), "whoever says why begins on a line of its own"


def test_a_program_that_cannot_be_started_leaves_nothing_moving(
    terminal: Terminal, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        build.run([str(tmp_path / "none")], log=tmp_path / "log", title="Building")
    assert not moving._unfinished
    assert not terminal.lines()


def test_where_somebody_may_be_asked_nothing_is_written_over(terminal: Terminal) -> None:
    with Parts("update", asking=("signing",)) as parts:
        parts("taking")
        parts("signing")
        assert not moving._unfinished
        assert terminal.getvalue().endswith("\nSigning\n")


def test_a_narrow_terminal_shows_the_time(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with Parts("build") as parts:
        parts("pack")
        terminal.now = 62.0
        terminal.wait_for("System: read-  1:02")


def test_who_interrupts_is_told_what_is_kept(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with Parts("build", "build-interrupted") as parts:
            parts("unpack")
            raise KeyboardInterrupt

    with pytest.raises(InterruptedByUserError):
        work()
    assert terminal.getvalue().endswith("\n"), "what is said stands below"
    assert capsys.readouterr().err == (
        "Interrupted. Finished parts are kept: the same command goes on from there.\n"
    )


def test_without_a_terminal_there_is_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Parts("build") as parts:
        parts("unpack")
        parts("pack")
    assert capsys.readouterr().err == "System: unpacking\nSystem: read-only file system\n"
