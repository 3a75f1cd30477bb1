"""Turns of the chat on a machine's console, as a person would have them.

The screen is read as a terminal shows it; how things stand is told by the colour of the dot in its
last lines (`tui/status.py`), whatever the language.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pyte

from images.errors import ImageError

__all__ = ["Talk", "Turn", "talk"]

COLUMNS, ROWS = 80, 24
_READY, _BUSY = "green", "brown"
_EVERY_S = 0.2
_TOLD_APART = 40
"""Letters of a question that fit on the first of its lines."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, in seconds since it was asked."""

    first_s: float
    """Until the first word of the answer."""
    answer_s: float
    """Until its end."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What was seen, in seconds since the machine was started."""

    screen_s: float
    """Until the chat shows itself."""
    ready_s: float
    """Until it can be asked."""
    turns: tuple[Turn, ...]
    screen: str
    """How the screen looks in the end."""


class _Console:
    def __init__(self, command: Sequence[str], record: Path, patience_s: float) -> None:
        self._record = record.open("w", encoding="utf-8")
        self._child = pexpect.spawn(
            command[0], list(command[1:]), encoding="utf-8", codec_errors="replace",
            dimensions=(ROWS, COLUMNS), timeout=None,
        )  # fmt: skip
        self._child.logfile_read = self._record
        self._patience_s = patience_s
        self.wait_anew()
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)

    def wait_anew(self) -> None:
        """Patience begins again."""
        self._deadline = time.monotonic() + self._patience_s

    def until(self, seen: Callable[[], bool], wanted: str) -> float:
        """Show what comes, until `seen`; the time when that was."""
        while not seen():
            try:
                self._stream.feed(self._child.read_nonblocking(65536, _EVERY_S))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF as error:
                raise self._failed("boot.ended", wanted) from error
            if time.monotonic() > self._deadline:
                raise self._failed("boot.too-late", wanted)
        return time.monotonic()

    def _failed(self, code: str, wanted: str) -> ImageError:
        return ImageError(code, wanted=wanted, log=self._record.name, screen=self.shown())

    def shown(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).strip("\n")

    def mood(self) -> str | None:
        """The colour of the dot; None: there is no chat on the screen."""
        for row in range(ROWS - 4, ROWS):
            for column in range(6):
                if self.screen.buffer[row][column].data == "●":
                    return str(self.screen.buffer[row][column].fg)
        return None

    def below(self, question: str) -> str:
        """The first line below a question: what is waited for, then its answer."""
        lines = [line.strip() for line in self.screen.display[: ROWS - 4]]
        asked = [n for n, line in enumerate(lines) if question[:_TOLD_APART] in line]
        return next(filter(None, lines[asked[-1] + 1 :]), "") if asked else ""

    def type(self, text: str) -> None:
        """Type it, as fast as a serial line takes it, and Enter."""
        for letter in f"{text}\r":
            self._child.send(letter)
            time.sleep(0.02)

    def close(self) -> None:
        """Switch the machine off."""
        self._child.close(force=True)
        self._record.close()


def talk(
    command: Sequence[str],
    questions: Sequence[str],
    record: Path,
    patience_s: float,
    answered: Callable[[Turn, str], object] = lambda *_: None,
) -> Talk:
    """Start a machine, wait for the chat, and ask one question after the other.

    Args:
        record: takes all that the console says.
        patience_s: for the start, and for each answer.
        answered: called after each answer, with the screen.

    Raises:
        ImageError: the machine ended, or it took too long; the text shows the screen.
    """
    began = time.monotonic()
    console = _Console(command, record, patience_s)
    try:
        screen = console.until(lambda: console.mood() is not None, "chat")
        ready = console.until(lambda: console.mood() == _READY, "ready")
        turns = []
        for question in questions:
            turns.append(_turn(console, question))
            answered(turns[-1], console.shown())
        return Talk(screen - began, ready - began, tuple(turns), console.shown())
    finally:
        console.close()


def _turn(console: _Console, question: str) -> Turn:
    console.wait_anew()
    asked = time.monotonic()
    console.type(question)
    console.until(lambda: console.mood() == _BUSY, "question")
    remarks = {""}

    def answered() -> bool:
        line = console.below(question)
        if "/" not in line and len(remarks) == 1:  # no counter: it says that it waits
            remarks.add(line)
        return console.mood() == _READY or not ("/" in line or line in remarks)

    first = console.until(answered, "first token")
    done = console.until(lambda: console.mood() == _READY, "answer")
    return Turn(first - asked, done - asked)
