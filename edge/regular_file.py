"""Refusing what only looks like a file: opening a named pipe waits for its writer for ever."""

from __future__ import annotations

from pathlib import Path

from edge.errors import CheckpointError

__all__ = ["check_regular"]


def check_regular(path: Path) -> None:
    """Let pass a file, a folder, and what is not there.

    Raises:
        CheckpointError: it is a named pipe, a socket or a device, or a link to one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CheckpointError("checkpoint.irregular", path=str(path))
