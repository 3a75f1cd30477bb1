"""`lucie image add-model`."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import click

from edge.commands.paths import AnyPath
from edge.paths import cache_dir
from images.commands.chosen import model_for_a_card
from images.commands.made import tell_made
from images.commands.parts import Parts
from images.commands.words import say, words
from images.errors import ImageError

__all__ = ["add_model"]


@click.command("add-model", **words("add-model"))
@click.argument("image", type=AnyPath())
@click.argument("model")
@click.option("--default/--no-default", "default", default=True, help=say("add-model-default"))
@click.option("--output", type=AnyPath(), metavar="DIR", help=say("add-model-output"))
def add_model(image: Path, model: str, default: bool, output: Path | None) -> None:
    """Put another model into an image."""
    from edge.workshop import check_free
    from images.building.adding import Addition, beside
    from images.building.adding import add_model as add
    from images.commands.place import place

    if image.is_dir():
        raise ImageError("add.no-image", path=str(image), reason=os.strerror(errno.EISDIR))
    order = Addition(image, model_for_a_card(model), default)
    out = output or beside(image, order.model)
    check_free(out)
    log = cache_dir() / "images" / "build.log"
    began = time.monotonic()
    with Parts("build") as parts, place(out):
        parts("checking")
        made = add(order, out, log, parts)
    tell_made(made, log, began)
