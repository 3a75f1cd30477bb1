"""The files of a loaded model, which native code reads as it goes: they are its memory.

Held open, they stay when the model is removed or replaced, for as long as it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edge.errors import ModelChangedError, ModelError

__all__ = ["LoadedFiles"]


class LoadedFiles:
    """Files as they are now.

    Raises:
        ModelError: one cannot be opened.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._held: list[tuple[Path, int, int]] = []  # path, descriptor, size
        for path in paths:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                self.close()
                reason = error.strerror or ""
                raise ModelError("gguf.unreadable", path=str(path), reason=reason) from error
            self._held.append((path, handle, os.fstat(handle).st_size))

    def check(self) -> None:
        """See that they are what was loaded: touching a page that is gone ends the process.

        Raises:
            ModelChangedError: one is longer or shorter by now.
        """
        for path, handle, size in self._held:
            if os.fstat(handle).st_size != size:
                raise ModelChangedError("engine.model-changed", path=str(path))

    def close(self) -> None:
        """Let go of them. Harmless when it is done."""
        while self._held:
            os.close(self._held.pop()[1])
