"""The stages of a long command, shown as one bar after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import click

from edge.commands.bar import Bar
from edge.errors import InterruptedByUserError
from edge.progress import Progress
from edge.quantity import count_text

__all__ = ["Stages"]


class Stages:
    """Called with a stage's name as it begins; Ctrl-C clears the bar and says what is kept.

    Args:
        say: gives the text of an entry, `stage-NAME` for a stage.
        interrupted: what to say after Ctrl-C.
        amounts: by stage, how a number of what is counted is written; without a unit elsewhere.
    """

    def __init__(
        self,
        say: Callable[[str], str],
        interrupted: str,
        amounts: Mapping[str, Callable[[int], str]],
    ) -> None:
        self._say = say
        self._interrupted = interrupted
        self._amounts = amounts
        self._bar: Bar | None = None

    def __call__(self, stage: str) -> Progress:
        """Begin a stage; returns what shows how far it is."""
        self._clear()
        self._bar = Bar(self._say(f"stage-{stage}"), self._amounts.get(stage, count_text))
        return self._bar

    def show(self, figures: str) -> None:
        """Figures to show behind the bar, from its next change on."""
        if self._bar is not None:
            self._bar.figures = figures

    def tell(self, line: str) -> None:
        """Say something between two parts, which stays there."""
        self._clear()
        click.echo(line, err=True)

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
