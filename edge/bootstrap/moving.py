"""A line on stderr that moves while work goes on, whatever the work tells of itself."""

from __future__ import annotations

import shutil
import sys
import time
from threading import Event, RLock, Thread
from typing import Self

__all__ = ["Moving", "show"]

_PLAIN_SECONDS = 30.0
"""Without a terminal: one line of progress so often."""
_LIVE_SECONDS = 1.0
"""On a terminal: how often it moves."""
_writing = RLock()
"""Had by who writes. The terminal belongs to the process, and so do both of these."""
_unfinished: list[Moving] = []
"""Whose line stands on the terminal and is written over; the last one is where the cursor is."""


def show(line: str) -> None:
    """Write a line to stderr, above the one that moves."""
    with _writing:
        sys.stderr.write(f"\r\x1b[K{line}\n" if _unfinished else f"{line}\n")
        sys.stderr.flush()
        if _unfinished:
            _unfinished[-1].draw()


class Moving:
    """`title  42 %  1:23` on one line of a terminal, moving; elsewhere a line now and then.

    Args:
        title: what is being done; without one, nothing is shown.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = bool(title) and sys.stderr.isatty()
        self._began = time.monotonic()
        self._told = -_PLAIN_SECONDS
        self._share = ""
        self._time = ""
        self._over = Event()
        if not title:
            return
        with _writing:
            if self._live:
                _unfinished.append(self)
            self.draw()
        Thread(target=self._tick, daemon=True).start()

    def show(self, done: int, total: int) -> None:
        """So much is done."""
        self._share = f"  {100 * done // total:3d} %"
        self._move()

    def end(self) -> None:
        """It is over; the line stays as it is."""
        with _writing:
            self._over.set()
            if self in _unfinished:
                _unfinished.remove(self)
                sys.stderr.write("\n")
                sys.stderr.flush()

    def draw(self) -> None:
        """Write the line as it is now."""
        more = f"{self._share}{self._time}"
        with _writing:
            if self._live:
                room = max(0, shutil.get_terminal_size().columns - 1 - len(more))
                sys.stderr.write(f"\r\x1b[K{self._title[:room]}{more}")
            else:
                sys.stderr.write(f"{self._title}{more}\n")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _tick(self) -> None:
        """What does not say how far it is moves, too."""
        while not self._over.wait(_LIVE_SECONDS if self._live else _PLAIN_SECONDS):
            self._move()

    def _move(self) -> None:
        with _writing:
            passed = time.monotonic() - self._began
            due = self._live or passed >= self._told + _PLAIN_SECONDS
            if self._title and due and not self._over.is_set():
                self._told = passed
                minutes, seconds = divmod(int(passed), 60)
                self._time = f"  {minutes}:{seconds:02d}"
                self.draw()
