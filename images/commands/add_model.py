"""`lucie image add-model`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edge.commands.paths import AnyPath
from edge.errors import InterruptedByUserError
from edge.paths import cache_dir
from images.commands.made import tell_made
from images.commands.words import say, words

__all__ = ["add_model"]


@click.command("add-model", **words("add-model"))
@click.argument("image", type=AnyPath())
@click.argument("model")
@click.option("--default/--no-default", "default", default=True, help=say("add-model-default"))
@click.option("--output", type=AnyPath(), metavar="DIR", help=say("add-model-output"))
def add_model(image: Path, model: str, default: bool, output: Path | None) -> None:
    """Put another model into an image."""
    from edge.store import Store
    from images.building.adding import Addition, beside
    from images.building.adding import add_model as add

    order = Addition(image, Store().find(model), default)
    out = output or beside(image, order.model)
    log = cache_dir() / "images" / "build.log"
    began = time.monotonic()
    try:
        made = add(order, out, log, lambda part: click.echo(say(f"build-{part}"), err=True))
    except KeyboardInterrupt:
        click.echo(say("interrupted"), err=True)
        raise InterruptedByUserError("models.interrupted") from None
    tell_made(made, log, began)
