"""`lucie image update`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from edge import __version__
from edge.commands.paths import AnyPath
from edge.paths import cache_dir
from edge.quantity import size_text
from images.commands.parts import Parts
from images.commands.signing import in_our_words, signing_key
from images.commands.words import say, words

__all__ = ["update"]


@click.command("update", **words("update"))
@click.argument("image", type=AnyPath())
@click.option("--key", type=AnyPath(), required=True, metavar="FILE", help=say("update-key"))
@click.option("-o", "--output", type=AnyPath(), metavar="FILE", help=say("update-output"))
def update(image: Path, key: Path, output: Path | None) -> None:
    """Make an update of an image."""
    from images.building.update import make_update
    from images.commands.place import place
    from images.onboard.update_file import SUFFIX

    out = output or Path(f"lucie-{__version__}-{datetime.now(UTC):%Y%m%d}{SUFFIX}")
    log = cache_dir() / "images" / "update.log"
    with Parts("update", asking=("signing",)) as parts, place(out):
        public = signing_key(key)
        with in_our_words():
            made = make_update(image, key, out, log, parts)
    click.echo(f"{made}  {size_text(made.stat().st_size)}")
    click.echo(say("update-made", key=public), err=True)
