"""What a disk that takes no more says, through the libraries that write to it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pretrain.errors import PretrainError

__all__ = ["unwritten"]

_FULL = os.strerror(errno.ENOSPC)


def unwritten(path: Path, error: BaseException, reason: str | None = None) -> PretrainError:
    """The error that says that a folder takes nothing, or no more.

    Args:
        path: the folder.
        error: what was raised; safetensors and torch have the system's reason in words alone.
        reason: those words, where the error itself says something else.
    """
    said = reason or getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or _FULL in said:
        return PretrainError("train.full", path=str(path))
    return PretrainError("train.unwritable", path=str(path), reason=said)
