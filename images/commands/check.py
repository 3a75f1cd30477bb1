"""`lucie image check`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.commands.paths import AnyPath
from edge.messages import text
from edge.paths import cache_dir
from images.commands.parts import Parts
from images.commands.words import say, words
from images.errors import ImageError

__all__ = ["check"]

_UNPACKED = Path("/var/tmp")  # noqa: S108 - a folder of its own is made there
_SYSTEM = 1_000_000_000
"""Bytes of a card’s system when it is unpacked, which is half of that, and some more."""


@click.command("check", **words("check"))
@click.argument("image", type=AnyPath())
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def check(image: Path, as_json: bool) -> None:
    """Look into an image."""
    from images.checking import check as look

    _require_space(image)
    with Parts("check") as parts:
        parts("looking")
        found = look(image, cache_dir() / "images" / "check.log")
    if as_json:
        told = [{"name": c.name, "kept": c.kept, "reason": c.reason} for c in found]
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        for contract in found:
            mark = "✓" if contract.kept else "✗"
            reason = f" ({contract.reason})" if contract.reason else ""
            click.echo(f"{mark} {say(f'contract-{contract.name}')}{reason}")
    broken = sum(not contract.kept for contract in found)
    if broken:
        raise ImageError("check.broken", path=str(image), broken=broken, contracts=len(found))


def _require_space(image: Path) -> None:
    """For the card, its partitions, and what is in them: a full disk is no fault of an image."""
    from images.building.space import require_space
    from images.flashing.source import open_image

    source = open_image(image)
    size = source.block_map.mapped if source.block_map else source.size or image.stat().st_size
    for folder in (_UNPACKED, cache_dir()):
        require_space(folder, 3 * size + _SYSTEM)
