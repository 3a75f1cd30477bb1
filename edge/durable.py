"""What outlasts a pulled plug.

A name can outlast one without its bytes: they are flushed first, then the file or folder gets its
name, and the folder which that stands in is flushed. What it replaces goes last of all.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["replace_file", "sync_file", "sync_folder", "sync_tree"]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` outlast a pulled plug: of files that are new, moved or gone.

    Raises:
        OSError: it is no folder, or the disk fails.
    """
    _flush(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make the bytes of a file outlast a pulled plug, whoever has written them.

    Raises:
        OSError: it cannot be read, or the disk takes no more.
    """
    _flush(path, os.O_RDONLY)


def sync_tree(folder: Path) -> None:
    """Make all in `folder` outlast a pulled plug, files and names; not its own name.

    Raises:
        OSError: as `sync_file` and `sync_folder`.
    """
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(parent, name))
        sync_folder(Path(parent))


def replace_file(path: Path, raw: bytes) -> None:
    """Write a file that holds after a pulled plug what it held before, or `raw`.

    Raises:
        OSError: the disk is full, or takes nothing.
    """
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as writer:
            writer.write(raw)
            writer.flush()
            os.fsync(writer.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
