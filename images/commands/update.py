"""`lucie image update`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.commands.paths import AnyPath
from edge.errors import InterruptedByUserError
from edge.paths import cache_dir
from edge.quantity import size_text
from images.commands.words import say, words

__all__ = ["update"]


@click.command("update", **words("update"))
@click.argument("image", type=AnyPath())
@click.option("--key", type=AnyPath(), required=True, metavar="FILE", help=say("update-key"))
@click.option("-o", "--output", type=AnyPath(), metavar="FILE", help=say("update-output"))
def update(image: Path, key: Path, output: Path | None) -> None:
    """Make an update of an image."""
    from images.building.update import make_update, public_key

    log = cache_dir() / "images" / "update.log"

    def told(part: str) -> None:
        click.echo(say(f"update-{part}"), err=True)

    try:
        made = make_update(image, key, output, log, told)
    except KeyboardInterrupt:
        click.echo(say("interrupted"), err=True)
        raise InterruptedByUserError("models.interrupted") from None
    click.echo(f"{made}  {size_text(made.stat().st_size)}")
    click.echo(say("update-made", key=public_key(key)), err=True)
