"""Options that give the sizes of a smaller model; what is not given stays as the teacher has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from distill.commands.words import say
from distill.errors import DistillUsageError
from edge.commands.numbers import Whole

__all__ = ["heads", "sizes"]

_F = TypeVar("_F", bound=Callable[..., Any])
_SIZE = Whole(1, 1 << 31)


def sizes(command: _F) -> _F:
    """The command with these options: `layers`, `width`, `ffn`, `heads`."""
    for option in (
        click.option("--heads", metavar="Q/KV", help=say("prune-heads")),
        click.option("--ffn", type=_SIZE, metavar="N", help=say("prune-ffn")),
        click.option("--width", type=_SIZE, metavar="N", help=say("prune-width")),
        click.option("--layers", type=_SIZE, metavar="N", help=say("prune-layers")),
    ):
        command = option(command)
    return command


def heads(given: str | None) -> tuple[int, int] | None:
    """Query heads and key-value heads; None: they are not given.

    Raises:
        DistillUsageError: it is not of the form `16/4`.
    """
    if given is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", given.strip(), re.ASCII)
    if not found or not all(map(int, found.groups())):
        raise DistillUsageError("prune.bad-heads", given=ascii(given)[1:-1])
    return int(found[1]), int(found[2])
