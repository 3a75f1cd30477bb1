"""Files of a board, written so that a pulled plug leaves the one before or the new one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.durable import sync_folder

__all__ = ["remove", "replace"]


def replace(file: Path, content: bytes, mode: int = 0o644, *, wipe: bool = False) -> None:
    """Write a file in the place of the one before.

    Args:
        file: it, and maybe its folders, need not be there.
        mode: of the new file.
        wipe: what the one before held is overwritten where it lay. A card moves what it writes:
            this hides it from who reads the card, not from who opens its chips.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    before = os.open(file, os.O_RDWR) if wipe and file.exists() else None
    draft = file.with_name(f".{file.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
            draft.replace(file)
            # On FAT, a name learns where its new file lies when that is flushed, not its folder.
            os.fsync(descriptor)
        sync_folder(file.parent)
        if before is not None:
            os.pwrite(before, bytes(os.fstat(before).st_size), 0)
            os.fsync(before)
    finally:
        draft.unlink(missing_ok=True)
        if before is not None:
            os.close(before)


def remove(place: Path) -> None:
    """Remove what lies there, whatever it is and if anything does; a link is not followed.

    Raises:
        OSError: it cannot be removed.
    """
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
