"""`lucie image build`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edge.commands.paths import AnyPath
from edge.errors import InterruptedByUserError
from edge.messages import LANGUAGES, language
from edge.paths import cache_dir
from images.boards import boards
from images.commands.made import tell_made
from images.commands.words import say, words

__all__ = ["build"]


@click.command("build", **words("build"))
@click.option("--board", type=click.Choice(list(boards())), default="pi5", show_default=True,
              help=say("build-board"))  # fmt: skip
@click.option("--model", metavar="NAME", help=say("build-model"))
@click.option("--lang", type=click.Choice(LANGUAGES), help=say("build-lang"))
@click.option("--update-key", type=AnyPath(), metavar="FILE", help=say("build-update-key"))
@click.option("--output", type=AnyPath(), metavar="DIR", help=say("build-output"))
def build(
    board: str, model: str | None, lang: str | None, update_key: Path | None, output: Path | None
) -> None:
    """Build an image."""
    from edge.store import Store
    from images.building.build import Order
    from images.building.build import build as make
    from images.building.update import public_key

    trusted = None if update_key is None else public_key(update_key)
    order = Order(boards()[board], Store().find(model), lang or language(), trusted)
    out = output or Path(f"lucie-{board}")
    log = cache_dir() / "images" / "build.log"
    began = time.monotonic()

    def told(part: str) -> None:
        click.echo(say(f"build-{part}"), err=True)

    try:
        made = make(order, out, log, told, lambda part: say(f"build-{part}"))
    except KeyboardInterrupt:
        click.echo(say("build-interrupted"), err=True)
        raise InterruptedByUserError("models.interrupted") from None
    tell_made(made, log, began)
