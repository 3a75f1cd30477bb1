"""What a disk says that takes no more, or gives nothing, through the libraries that ask it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.text import one_line
from pretrain.errors import PretrainError

__all__ = ["unread", "unwritten", "written"]

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


def unread(folder: Path, error: BaseException) -> PretrainError:
    """The error that says that a file cannot be read, which is not of the training's own folder.

    Args:
        folder: of the training, should it be that its disk is full.
        error: what was raised.
    """
    if getattr(error, "errno", None) == errno.ENOSPC:
        return unwritten(folder, error)
    name, said = getattr(error, "filename", None), getattr(error, "strerror", None)
    reason = f"{name}: {said}" if name and said else one_line(error)
    return PretrainError("train.unreadable", reason=reason)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say of what is refused within that the folder takes nothing.

    Raises:
        PretrainError: its disk is full, or takes nothing.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise unwritten(path, error) from error
