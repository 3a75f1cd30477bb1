"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Count", "Progress"]

Progress = Callable[[int, int | None], object]
"""Called with bytes done and bytes in all, None while that is not known."""


class Count:
    """Bytes done of several files together."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self.total = total
        self.progress = progress

    def add(self, size: int) -> None:
        """Say that `size` more bytes are done."""
        self.done += size
        if self.progress:
            self.progress(self.done, self.total)
