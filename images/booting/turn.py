"""Turns of the chat on a machine's console, as a person would have them.

The screen is read as a terminal shows it; how things stand is told by the colour of the dot in its
last lines (`tui/status.py`), whatever the language.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pyte

from images.errors import ImageError

__all__ = ["Console", "Talk", "Turn", "talk"]

COLUMNS, ROWS = 80, 24
_READY, _BUSY = "green", "brown"
_BAR = " ▁▂▃▄▅▆▇█"
"""What a scroll bar's ends are drawn with."""
_EVERY_S = 0.2
_DRAWN_S = 1.0
"""A serial line draws a line in pieces: what it says is known when it has stood so long."""
_TOLD_APART = 40
"""Letters of a question that fit on the first of its lines."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, in seconds since it was asked."""

    first_s: float
    """Until the first word of the answer."""
    answer_s: float
    """Until its end, or until it was stopped."""
    words: int
    """Of the answer, on the screen."""
    stopped: bool
    """There were more to come: it had as many as were asked for."""


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


class Console:
    """A machine that runs, and the screen that its serial line draws.

    Args:
        command: the machine.
        record: takes all that the console says.
        patience_s: for each thing that is waited for.
    """

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

    def has(self, question: str) -> bool:
        """Whether a question is on the screen; a long answer moves it away."""
        return self._after(question) is not None

    def below(self, question: str) -> str:
        """The first line below a question: what is waited for, then its answer."""
        return next(filter(None, self._after(question) or ()), "")

    def words(self, question: str) -> int:
        """How many of its answer are on the screen, which a long one fills."""
        after = self._after(question)
        return len(re.findall(r"\w+", " ".join(self._lines() if after is None else after)))

    def _after(self, question: str) -> list[str] | None:
        """The lines below a question; None: it is not on the screen any more."""
        lines = self._lines()
        asked = [n for n, line in enumerate(lines) if question[:_TOLD_APART] in line]
        return lines[asked[-1] + 1 :] if asked else None

    def _lines(self) -> list[str]:
        """Those of the conversation, without the bar at their right."""
        return [line.rstrip(_BAR).lstrip() for line in self.screen.display[: ROWS - 4]]

    def type(self, text: str) -> None:
        """Type it, as fast as a serial line takes it, and Enter."""
        for letter in f"{text}\r":
            self._child.send(letter)
            time.sleep(0.02)

    def send(self, key: str) -> None:
        """Press a key, as a terminal sends it."""
        self._child.send(key)

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
    most_words: int | None = None,
) -> Talk:
    """Start a machine, wait for the chat, and ask one question after the other.

    Args:
        record: takes all that the console says.
        patience_s: for the start, and for each answer.
        answered: called after each answer, with the screen.
        most_words: of an answer; then it is stopped. A small model may go on until its context
            is full, which takes an emulated board an hour.

    Raises:
        ImageError: the machine ended, or it took too long; the text shows the screen.
    """
    began = time.monotonic()
    console = Console(command, record, patience_s)
    try:
        screen = console.until(lambda: console.mood() is not None, "chat")
        ready = console.until(lambda: console.mood() == _READY, "ready")
        turns = []
        for question in questions:
            turns.append(_turn(console, question, most_words))
            answered(turns[-1], console.shown())
        return Talk(screen - began, ready - began, tuple(turns), console.shown())
    finally:
        console.close()


class _FirstWord:
    """Tells when an answer began: in its place it says first that it waits, and how far it is."""

    def __init__(self, console: Console, question: str) -> None:
        self._console = console
        self._question = question
        self._shown: float | None = None
        self._waiting = ""
        self.since = math.inf
        """When it was there."""

    def seen(self) -> bool:
        """Whether there is a word of it, or its end."""
        now = time.monotonic()
        gone = self._shown is not None and not self._console.has(self._question)
        if gone or self._console.mood() == _READY:
            self.since = min(self.since, now)
            return True
        line = self._console.below(self._question)
        if line and self._shown is None:
            self._shown = now
        fresh = self._shown is not None and now - self._shown < _DRAWN_S
        if fresh and "/" not in line and line.startswith(self._waiting):
            self._waiting = line
        if "/" in line or line in ("", self._waiting):  # a counter; no counter
            self.since = math.inf
            return False
        self.since = min(self.since, now)
        return now - self.since >= _DRAWN_S


def _turn(console: Console, question: str, most_words: int | None) -> Turn:
    console.wait_anew()
    asked = time.monotonic()
    console.type(question)
    console.until(lambda: console.mood() == _BUSY, "question")
    first_word = _FirstWord(console, question)
    console.until(first_word.seen, "first token")

    def ended() -> bool:
        return console.mood() == _READY

    def enough() -> bool:
        return ended() or (most_words is not None and console.words(question) >= most_words)

    console.until(enough, "answer")
    words, stopped = console.words(question), not ended()
    if stopped:
        console.send("\x1b")
    done = console.until(ended, "answer")
    return Turn(first_word.since - asked, done - asked, words, stopped)
