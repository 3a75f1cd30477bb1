"""The parts of a long work, told as they begin."""

from __future__ import annotations

from collections.abc import Collection

import click

from edge.bootstrap.moving import Moving, show
from edge.errors import InterruptedByUserError
from images.commands.words import say

__all__ = ["Parts"]


class Parts:
    """Called with a part's name as it begins; its line shows how long it has taken, and moves.

    None of them can tell how far it is. Ctrl-C says what is kept.

    Args:
        work: entries `WORK-PART` of the texts say what is done.
        interrupted: entry of what to say after Ctrl-C.
        asking: parts in which somebody may be asked something, below a line that stands still.
    """

    def __init__(
        self, work: str, interrupted: str = "interrupted", asking: Collection[str] = ()
    ) -> None:
        self._work = work
        self._interrupted = interrupted
        self._asking = asking
        self._moving: Moving | None = None

    def __call__(self, part: str) -> None:
        """Begin a part."""
        title = self.title(part)
        if part in self._asking:
            show(title)
        else:
            self._moving = Moving(title)

    def title(self, part: str) -> str:
        """What is said of a part that shows by itself how far it is, and begins now."""
        self._end()
        return say(f"{self._work}-{part}")

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            click.echo(say(self._interrupted), err=True)
            raise InterruptedByUserError("models.interrupted") from None

    def _end(self) -> None:
        if self._moving is not None:
            self._moving.end()
            self._moving = None
