"""A bar on stderr that shows how far work is; where stderr is no terminal, a line each minute."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Self

import click

from edge.messages import text
from edge.quantity import duration_text, size_text

__all__ = ["Bar"]

_EVERY_S = 0.1
_LINE_EVERY_S = 60.0
"""In a file of what was said; short work leaves nothing there."""
_WIDTH, _LEAST = 24, 4
"""Characters of the bar itself; where there is less room, there is none."""
_TOLD_AFTER_S = 10.0
"""Then it is known well enough how long the rest takes."""


class Bar:
    """Used as a `Progress`; clears its line at the end.

    Args:
        label: what is being done.
        amount: how a number of what is counted is written; bytes, where nothing else is said.
    """

    def __init__(self, label: str, amount: Callable[[int], str] = size_text) -> None:
        self._label = label
        self._amount = amount
        self._terminal = sys.stderr.isatty()
        self._every = _EVERY_S if self._terminal else _LINE_EVERY_S
        self._last = 0.0 if self._terminal else time.monotonic()
        self._began: tuple[float, int] | None = None
        """When and where something was done first; work that is taken up begins in its middle."""
        self.figures = ""
        """What is shown behind the bar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done, if the last time is some while ago."""
        now = time.monotonic()
        if now - self._last >= self._every or (self._terminal and done == total):
            self._last = now
            figures = f" · {self.figures}" if self.figures else ""
            self._write(self._line(done, total, figures + self._rest(now, done, total)))

    def _rest(self, now: float, done: int, total: int | None) -> str:
        """How long it will take, where that is long."""
        if self._began is None or not self._began[1]:
            self._began = now, done
        since, before = self._began
        took = now - since
        if not total or not before < done < total or took < _TOLD_AFTER_S:
            return ""
        left = took * (total - done) / (done - before)
        return f" · {text('quantity.left', time=duration_text(left))}"

    def _line(self, done: int, total: int | None, figures: str) -> str:
        """The line; figures say more than the bar, which is shorter where there is no room."""
        if not total:
            return f"{self._label} {self._amount(done)}{figures}"
        share = text("quantity.of", share=100 * done // total, total=self._amount(total))
        room = _columns() - len(f"{self._label} [] {share}{figures}")
        width = min(_WIDTH, room)
        if not self._terminal or width < _LEAST:
            return f"{self._label} {share}{figures}"
        full = width * done // total
        return f"{self._label} [{'#' * full}{'-' * (width - full)}] {share}{figures}"

    def clear(self) -> None:
        """Take the line away, before other text is written."""
        if self._terminal and self._last:
            self._write("")

    def _write(self, line: str) -> None:
        if self._terminal:
            click.echo(f"\r{line[: _columns()]}\x1b[K", err=True, nl=False)
        else:
            click.echo(line, err=True)


def _columns() -> int:
    """Of a line on which the cursor stays."""
    return shutil.get_terminal_size().columns - 1
