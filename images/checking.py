"""What every card of ours keeps to, looked for in an image without starting it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from images.building.debian import tools
from images.unpacking import unpack

__all__ = ["Contract", "check"]


@dataclass(frozen=True, slots=True)
class Contract:
    """One thing that is looked for."""

    name: str
    """As `steps/check.sh` calls it."""
    kept: bool
    reason: str
    """The last that was said of it, where it is broken."""


def check(image: Path, log: Path) -> list[Contract]:
    """Look into an image.

    Args:
        log: where the work is told.

    Raises:
        ImageError: it cannot be unpacked.
        BuildError: it cannot be looked into.
    """
    found: list[Contract] = []

    def heard(line: str) -> None:
        mark, _, rest = line.partition(" ")
        if mark in {"+", "-"}:
            name, _, reason = rest.partition(" ")
            found.append(Contract(name, mark == "+", reason))

    with tempfile.TemporaryDirectory(prefix="lucie-check-", dir="/var/tmp") as folder:
        unpack(image, Path(folder, "card.img"))
        room = tools(log)
        binds = {"/card": Path(folder)}
        room.run("check", "/card/card.img", binds=binds, log=log, heard=heard)
    return found
