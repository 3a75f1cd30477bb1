"""Options that several commands of `lucie quantize` share."""

from __future__ import annotations

from collections.abc import Sequence

import click

from edge.commands.numbers import Whole
from quantize.commands.words import say
from quantize.measuring.calibration import LabelledText, check_there, parse

__all__ = ["calibration_or", "chunks", "texts", "texts_or", "threads"]

threads = click.option("--threads", type=Whole(0, 512), default=0, metavar="N", help=say("threads"))
chunks = click.option("--chunks", type=Whole(min=1), metavar="N", help=say("chunks"))
texts = click.option(
    "--text", "texts", multiple=True, metavar="[LANG=]TEXT", help=say("measure-text")
)


def texts_or(given: Sequence[str], otherwise: Sequence[LabelledText]) -> Sequence[LabelledText]:
    """The texts that are named, which have to be there, or those that come with the project."""
    if not given:
        return otherwise
    texts = parse(given)
    check_there(texts)
    return texts


def calibration_or(
    given: Sequence[str], otherwise: Sequence[LabelledText]
) -> Sequence[LabelledText]:
    """`texts_or`, for texts that decide what matters; says so where that is one language alone."""
    found = texts_or(given, otherwise)
    if len({text.label for text in found}) == 1:
        click.echo(say("one-language"), err=True)
    return found
