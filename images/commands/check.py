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


@click.command("check", **words("check"))
@click.argument("image", type=AnyPath())
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def check(image: Path, as_json: bool) -> None:
    """Look into an image."""
    from images.checking import check as look

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
