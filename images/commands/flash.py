"""`lucie image flash`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.commands.paths import AnyPath
from edge.markdown_table import markdown_table
from edge.quantity import decimal_text, size_text
from images.commands.words import say, stages, words
from images.errors import ImageError, ImageUsageError

if TYPE_CHECKING:
    from images.flashing.drives import Drive

__all__ = ["flash"]


@click.command("flash", **words("flash"))
@click.argument("image", type=AnyPath(), required=False)
@click.argument("devices", nargs=-1, type=AnyPath(), metavar="[DEVICE]...")
@click.option("--list", "listed", is_flag=True, help=say("flash-list"))
@click.option("--bmap", "block_map", type=AnyPath(), help=say("flash-bmap"))
@click.option("-y", "--yes", is_flag=True, help=say("flash-yes"))
def flash(
    image: Path | None, devices: tuple[Path, ...], listed: bool, block_map: Path | None, yes: bool
) -> None:
    """Write an image on cards."""
    from images.flashing.drives import removable, unmount
    from images.flashing.source import open_image
    from images.flashing.writing import Card, write

    if listed:
        click.echo(_table(removable()) or say("flash-none"))
        return
    if image is None:
        raise ImageUsageError("flash.which-image")
    source = open_image(image, block_map)
    if not devices:
        found = _table(removable())
        click.echo(found or say("flash-none"), err=True)
        raise ImageUsageError("flash.which-card")
    drives = _chosen(devices, source.size)
    if not yes:
        _ask(drives)
    for drive in drives:
        unmount(drive)
    cards = [Card(drive.path, drive.size) for drive in drives]
    rates: list[float] = []
    with stages("flash-interrupted") as stage:

        def told(rate: float) -> None:
            rates[:] = [rate]
            stage.show(say("flash-rate", rate=decimal_text(rate / 1e6, 1)))

        write(source, cards, stage, told)
    for card in cards:
        if card.error is None:
            rate = decimal_text(rates[-1] / 1e6, 1) if rates else "?"
            click.echo(say("flashed", path=card.path, rate=rate), err=True)
        else:
            click.echo(say("flash-failed", reason=card.error), err=True)
    failed = sum(card.error is not None for card in cards)
    if failed:
        raise ImageError("flash.some", failed=failed, cards=len(cards))


def _chosen(devices: Sequence[Path], size: int | None) -> list[Drive]:
    """The drives that are named, all of which will do."""
    from images.flashing.drives import drive

    found = {each.path: each for each in map(drive, devices)}
    for each in found.values():
        if size is not None and each.size < size:
            raise ImageError(
                "flash.small", path=str(each.path), size=size_text(each.size),
                needed=size_text(size),
            )  # fmt: skip
    return list(found.values())


def _ask(drives: Sequence[Drive]) -> None:
    """Have a person say that these may be erased."""
    click.echo(_table(drives), err=True)
    try:
        said = click.prompt(
            say("flash-ask", count=len(drives)), default="", show_default=False, err=True
        )
    except click.Abort as error:  # nobody is there to answer
        click.echo(err=True)
        raise ImageUsageError("flash.ask-nobody") from error
    if said.strip().casefold() not in say("flash-agree").split():
        raise ImageError("flash.declined")


def _table(drives: Sequence[Drive]) -> str:
    rows = [
        [str(each.path), size_text(each.size), each.name, ", ".join(each.mounts)] for each in drives
    ]
    headings = [say(f"drive-{entry}") for entry in ("path", "size", "name", "mounts")]
    return markdown_table(headings, rows, left=frozenset({0, 2, 3})) if rows else ""
