"""The part of a file that has come so far, and what file it is of.

`NAME.part` holds the bytes, `NAME.part.json` beside it what the server said of
the file: a part is continued only while the server says the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Part", "Served"]

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Served:
    """What an answer says of the file and of itself."""

    identity: str | None
    """ETag: another one is another file."""
    size: int | None
    """Bytes of the whole file."""
    start: int | None
    """Where in the file the answer begins."""
    sha256: str | None
    commit: str | None
    """Revision of the repository, told by Hugging Face."""


class Part:
    """The bytes that have come, their hash, and what file they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")
        self._file: BinaryIO
        self._digest: _Hash
        self._of: dict[str, object] = {}
        self.size = 0
        self.restarts = 0

    def __enter__(self) -> Self:
        self._digest = hashlib.sha256()
        self._of = _read_note(self._note)
        self._file = self.path.open("r+b" if self.path.exists() else "x+b")
        if not self._of.get("identity"):  # a part of nobody knows what
            self._file.truncate()
        while block := self._file.read(_BLOCK):
            self._digest.update(block)
            self.size += len(block)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        # The file's own size: Ctrl-C can come between a write and its being counted.
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()
            self._note.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """Hash of the bytes so far."""
        return self._digest.hexdigest()

    def continues(self, served: Served) -> bool:
        """Whether the answer is the rest of the file that this is the beginning of."""
        return served.start == self.size and self._of == _of(served)

    def completes(self, served: Served) -> bool:
        """Whether this is all of the file, as after a plug pulled just before `finish`."""
        return served.size == self.size and self._of == _of(served)

    def expect(self, served: Served) -> None:
        """Note what file the bytes are of."""
        if self._of != (of := _of(served)):
            self._of = of
            draft = self._note.with_suffix(".tmp")
            draft.write_text(json.dumps(of), encoding="utf-8")
            draft.replace(self._note)

    def append(self, block: bytes) -> None:
        """Add bytes at the end."""
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Forget all bytes."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0
        self.restarts += 1

    def finish(self, target: Path) -> None:
        """Give the complete file its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.path.replace(target)
        self._note.unlink(missing_ok=True)


def _of(served: Served) -> dict[str, object]:
    return {"identity": served.identity, "size": served.size}


def _read_note(path: Path) -> dict[str, object]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
