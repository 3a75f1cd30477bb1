"""Refusing what only looks like a file: opening a named pipe waits for its writer for ever."""

from __future__ import annotations

import stat
from pathlib import Path

from edge.errors import CheckpointError

__all__ = ["check_regular"]


def check_regular(path: Path) -> None:
    """Let pass a file, a folder, and what is not there.

    Raises:
        CheckpointError: it is a named pipe, a socket or a device, or a link to one.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # whoever opens it says it better
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CheckpointError("checkpoint.irregular", path=str(path))
