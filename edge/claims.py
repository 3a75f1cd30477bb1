"""Which conversations are open in which process, so that two never write to one.

A lock on one byte of a file for each conversation: the kernel lets go of it when its
process ends, however that happens.
"""

from __future__ import annotations

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
        if self._handle is None:
            try:
                self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            except OSError:
                return True
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, conversation)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True
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
