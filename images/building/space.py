"""Space on a disk, looked for before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge.quantity import size_text
from images.errors import ImageError

__all__ = ["require_space"]


def require_space(folder: Path, needed: int) -> None:
    """Refuse work that takes more bytes than the disk of a folder has, which need not be there yet.

    Raises:
        ImageError: that.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ImageError("build.disk-full", path=str(folder.resolve()), needed=size_text(needed),
                         free=size_text(free))  # fmt: skip
