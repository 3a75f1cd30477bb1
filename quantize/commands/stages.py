"""The stages of a long command, shown as one bar after the other."""

from __future__ import annotations

from collections.abc import Callable

import click

from edge.commands.bar import Bar
from edge.errors import InterruptedByUserError
from edge.progress import Progress
from edge.quantity import count_text, size_text
from quantize.commands.words import say

__all__ = ["Stages"]

_BYTES = frozenset({"verify", "floats", "weights", "hash"})


class Stages:
    """Called with a stage's name as it begins; Ctrl-C clears the bar and says what is kept.

    Args:
        interrupted: entry of the sentence that says so.
        facts: to be named in it.
    """

    def __init__(self, interrupted: str = "interrupted", **facts: object) -> None:
        self._interrupted = say(interrupted, **facts)
        self._bar: Bar | None = None

    def __call__(self, stage: str) -> Progress:
        """Begin a stage; returns what shows how far it is."""
        self._clear()
        amount: Callable[[int], str] = size_text if stage in _BYTES else count_text
        self._bar = Bar(say(f"stage-{stage}"), amount)
        return self._bar

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._clear()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            click.echo(self._interrupted, err=True)
            raise InterruptedByUserError("models.interrupted") from None

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()
            self._bar = None
