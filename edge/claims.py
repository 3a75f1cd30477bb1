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

    @property
    def held(self) -> int | None:
        """The conversation that is held."""
        return self._held

    def take(self, conversation: int) -> bool:
        """Let go of what was held and hold this one; False where another process does.

        Where nothing can be locked, everything is free.
        """
        if conversation == self._held:
            return True
        if not self._lock(conversation):
            return False
        self.release()
        self._held = conversation
        return True

    def elsewhere(self, conversation: int) -> bool:
        """Whether another process holds this one."""
        if conversation == self._held:
            return False
        if not self._lock(conversation):
            return True
        self._unlock(conversation)
        return False

    def _lock(self, conversation: int) -> bool:
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, conversation)
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES) or self._handle is None
        return True

    def _unlock(self, conversation: int) -> None:
        if self._handle is not None:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, conversation)

    def release(self) -> None:
        """Hold nothing."""
        if self._held is not None:
            self._unlock(self._held)
        self._held = None

    def close(self) -> None:
        """Hold nothing, and close the file."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = self._held = None
