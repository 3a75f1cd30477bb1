"""Which conversations are open in which process, so that two never write to one.

A lock on one byte of a file for each conversation: the kernel lets go of it when its
process ends, however that happens.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

__all__ = ["Claim"]


class Claim:
    """The one conversation that this process has open.

    Args:
        path: a file that processes share; it stays empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self._held: int | None = None

    def take(self, conversation: int) -> bool:
        """Let go of what was held and hold this one; False where another process does.

        Where the file system knows no locks, everything is free.
        """
        if conversation == self._held:
            return True
        try:
            if self._handle is None:
                flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
                self._handle = os.open(self._path, flags, 0o600)
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, conversation)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN) or self._handle is None
        self.release()
        self._held = conversation
        return True

    def release(self) -> None:
        """Hold nothing."""
        if self._handle is not None and self._held is not None:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, self._held)
        self._held = None

    def close(self) -> None:
        """Hold nothing, and close the file."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = self._held = None
