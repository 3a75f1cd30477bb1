"""`lucie image flash`."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.commands.paths import AnyPath
from edge.markdown_table import markdown_table
from edge.quantity import decimal_text, duration_text, size_text
from images.commands.as_root import as_root
from images.commands.words import say, stages, words
from images.errors import ImageError, ImageUsageError

if TYPE_CHECKING:
    from images.flashing.drives import Drive
    from images.flashing.source import Image
    from images.flashing.writing import Card

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
    drives = _chosen(devices, source)
    if not all(os.access(drive.path, os.W_OK) for drive in drives):
        raise ImageError("flash.needs-root", command=as_root(*_words(image, devices, block_map)))
    if not yes:
        _ask(drives)
    for drive in drives:
        unmount(drive)
    cards = [Card(drive.path, drive.size) for drive in drives]
    rates: list[float] = []
    began = time.monotonic()
    with stages("flash-interrupted") as stage:

        def told(rate: float) -> None:
            rates[:] = [rate]
            failing = ", ".join(str(card.path) for card in cards if card.error is not None)
            figures = say("flash-rate", rate=decimal_text(rate / 1e6, 1))
            stage.show(f"{figures} · {say('flash-failing', paths=failing)}" if failing else figures)

        write(source, cards, stage, told)
    rate = decimal_text(rates[-1] / 1e6, 1) if rates else "?"
    _tell(cards, rate, time.monotonic() - began)
    if failed := [card for card in cards if card.error is not None]:
        again = _words(image, [card.path for card in failed], block_map)
        command = as_root(*again) if "SUDO_USER" in os.environ else shlex.join(["lucie", *again])
        raise ImageError("flash.some", failed=len(failed), cards=len(cards), command=command)


def _tell(cards: Sequence[Card], rate: str, took: float) -> None:
    """What has become of each: failures last, where they are seen."""
    written = [card for card in cards if card.error is None]
    for card in written:
        click.echo(say("flashed", path=card.path, rate=rate), err=True)
    if written:
        time_text = duration_text(took)
        click.echo(say("flash-done", count=len(written), time=time_text), err=True)
    for card in cards:
        if card.error is not None:
            click.echo(say("flash-failed", reason=card.error), err=True)


def _words(image: Path, devices: Sequence[Path], block_map: Path | None) -> list[str]:
    """The command that writes the image on these alone, to be typed as it is."""
    mapped = [] if block_map is None else ["--bmap", str(block_map)]
    return ["image", "flash", str(image), *map(str, devices), *mapped]


def _chosen(devices: Sequence[Path], image: Image) -> list[Drive]:
    """The drives that are named, all of which will do; of others, each is told."""
    found: dict[Path, Drive] = {}
    refused: dict[str, ImageError | ImageUsageError] = {}
    for device in devices:
        try:
            each = _fitting(device, image)
        except (ImageError, ImageUsageError) as error:
            refused[str(error)] = error
        else:
            found[each.path] = each
    if refused:
        *others, (_, last) = refused.items()
        for said, _ in others:
            click.echo(said, err=True)
        raise last
    return list(found.values())


def _fitting(device: Path, image: Image) -> Drive:
    from images.flashing.drives import drive

    each, size = drive(device), image.size
    if any(image.path.resolve().is_relative_to(mount) for mount in each.mounts):
        raise ImageUsageError("flash.holds-image", path=str(each.path), image=str(image.path))
    if size is not None and each.size < size:
        raise ImageError(
            "flash.small", path=str(each.path), size=size_text(each.size), needed=size_text(size)
        )
    return each


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
