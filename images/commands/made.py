"""What is told of an image bundle that has been made."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.quantity import duration_text, size_text
from images.commands.as_root import as_root
from images.commands.words import say

if TYPE_CHECKING:
    from edge.bundle import Bundle

__all__ = ["tell_made"]


def tell_made(made: Bundle, log: Path, began: float) -> None:
    """List its files on stdout, and on stderr what comes next.

    Args:
        began: on the monotonic clock, in seconds.
    """
    from images.building.build import imager_manifest

    out = made.path
    for name, file in made.manifest.files.items():
        click.echo(f"{out / name}  {size_text(file.size)}")
    click.echo(imager_manifest(out))
    took = duration_text(time.monotonic() - began)
    flash = as_root("image", "flash", str(next(out.glob("*.img.xz"))), "/dev/sdX")
    click.echo(say("built", time=took, command=flash, log=log), err=True)
