"""One turn of the chat on a machine's console, as a person would have it.

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

__all__ = ["Turn", "one_turn"]

COLUMNS, ROWS = 80, 24
_READY, _BUSY = "green", "brown"
_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Turn:
    """What was seen, in seconds since the machine was started or since the question was asked."""

    screen_s: float
    """Until the chat shows itself."""
    ready_s: float
    """Until it can be asked."""
    first_s: float
    """From the question to the first word of the answer."""
    answer_s: float
    """From the question to the end of the answer."""
    screen: str
    """How the screen looks in the end."""


class _Console:
    def __init__(self, command: Sequence[str], record: Path, deadline: float) -> None:
        self._record = record.open("w", encoding="utf-8")
        self._child = pexpect.spawn(
            command[0], list(command[1:]), encoding="utf-8", codec_errors="replace",
            dimensions=(ROWS, COLUMNS), timeout=None,
        )  # fmt: skip
        self._child.logfile_read = self._record
        self._deadline = deadline
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)

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

    def answering(self, question: str) -> bool:
        """Whether there is a word of an answer below the question; a counter is none."""
        lines = [line.strip() for line in self.screen.display[: ROWS - 4]]
        asked = [n for n, line in enumerate(lines) if question in line]
        return any(line and "/" not in line for line in lines[asked[-1] + 1 :]) if asked else False

    def type(self, text: str) -> None:
        """Type it, as fast as a serial line takes it, and Enter."""
        for letter in f"{text}\r":
            self._child.send(letter)
            time.sleep(0.02)

    def close(self) -> None:
        """Switch the machine off."""
        self._child.close(force=True)
        self._record.close()


def one_turn(command: Sequence[str], question: str, record: Path, patience_s: float) -> Turn:
    """Start a machine, wait for the chat, ask, and wait for the answer.

    Args:
        record: takes all that the console says.
        patience_s: for all of it.

    Raises:
        ImageError: the machine ended, or it took too long; the text shows the screen.
    """
    began = time.monotonic()
    console = _Console(command, record, began + patience_s)
    try:
        screen = console.until(lambda: console.mood() is not None, "chat")
        ready = console.until(lambda: console.mood() == _READY, "ready")
        asked = time.monotonic()
        console.type(question)
        console.until(lambda: console.mood() == _BUSY, "question")
        first = console.until(lambda: console.answering(question), "first token")
        done = console.until(lambda: console.mood() == _READY, "answer")
        return Turn(screen - began, ready - began, first - asked, done - asked, console.shown())
    finally:
        console.close()
