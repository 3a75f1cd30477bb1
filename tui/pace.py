"""How far an answer is, and how fast it grows, for the status line."""

from __future__ import annotations

import time
from dataclasses import replace

from tui.status import Status

__all__ = ["Pace"]

_TELL_S = 0.5


class Pace:
    """How far an answer is and how fast it grows, told now and then: drawing costs a board."""

    def __init__(self) -> None:
        self.prompt = 0
        """Tokens of the prompt."""
        self.tokens = 0
        """Tokens of the answer so far."""
        self._first: tuple[float, int] | None = None
        self._next = 0.0
        self._now = 0.0

    def due(self, tokens: int) -> bool:
        """Note the answer's length in tokens; whether it is time to tell it."""
        self._now = time.monotonic()
        self.tokens = tokens
        self._first = self._first or (self._now, tokens)
        if self._now < self._next:
            return False
        self._next = self._now + _TELL_S
        return True

    def told(self, status: Status) -> Status:
        """`status` with the context in use and, when there is enough to measure, the speed."""
        began, first = self._first or (self._now, 0)
        elapsed = self._now - began
        speed = (self.tokens - first) / elapsed if elapsed >= _TELL_S else status.speed
        return replace(status, used=self.prompt + self.tokens, speed=speed)
