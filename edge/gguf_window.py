"""Reading the front of a file that nobody vouches for: bounded, a piece at a time.

The file is read, never mapped: a page of a failing SD card that cannot be read is then an
error here, where under mmap it would be a SIGBUS, which ends the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Any

from edge.errors import DamagedModelError, ModelError

__all__ = ["HEADER_LIMIT", "Window", "printable"]

HEADER_LIMIT = 32 << 20
"""Most bytes of keys, vocabulary and tensor descriptions. Vocabularies of 262,144 tokens with
their merges take 8 to 16 MiB."""

_CHUNK = 256 << 10
_LONGEST_STRING = 1 << 20
_LENGTH = Struct("<Q")


def printable(value: object, most: int = 200) -> str:
    """`value` as text for a screen: cut, and without what would steer a terminal."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in str(value)[: most + 1])
    return shown if len(shown) <= most else shown[:most] + "…"


class Window:
    """A piece of a file that moves forward over its header.

    Args:
        path: for error messages.
        fd: the open file; the caller closes it.
        size: bytes of the file.
    """

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self.size = size
        self._fd = fd
        self._data = b""
        self._base = 0
        self._pos = 0

    @property
    def offset(self) -> int:
        """Byte of the file that is read next."""
        return self._base + self._pos

    def damaged(self, code: str, **facts: Any) -> DamagedModelError:
        """An error about this file."""
        return DamagedModelError(f"gguf.{code}", path=printable(self.path), **facts)

    def unsupported(self, code: str, **facts: Any) -> ModelError:
        """An error about a file that may well be right, but not for this program."""
        return ModelError(f"gguf.{code}", path=printable(self.path), **facts)

    def take(self, n: int) -> bytes:
        """The next `n` bytes."""
        if self._pos + n > len(self._data):
            self._fill(n)
        start, self._pos = self._pos, self._pos + n
        return self._data[start : self._pos]

    def unpack(self, form: Struct) -> Any:
        """The next value of a fixed size."""
        return form.unpack(self.take(form.size))[0]

    def seek(self, offset: int) -> None:
        """Go on reading at `offset`."""
        self._check(offset, 0)
        if self._base <= offset <= self._base + len(self._data):
            self._pos = offset - self._base
        else:
            self._data, self._base, self._pos = b"", offset, 0

    def strings(self, count: int) -> Iterator[bytes]:
        """The next `count` strings, each stored as a length of 8 bytes and its bytes.

        A vocabulary has 100,000 of them, hence the local variables.
        """
        length_at = _LENGTH.unpack_from
        data, pos = self._data, self._pos
        for _ in range(count):
            if pos + 8 > len(data):
                self._pos = pos
                self._fill(8)
                data, pos = self._data, self._pos
            length = length_at(data, pos)[0]
            if pos + 8 + length > len(data):
                self._pos = pos
                self._fill(8 + length)
                data, pos = self._data, self._pos
            end = pos + 8 + length
            yield data[pos + 8 : end]
            pos = end
        self._pos = pos

    def _check(self, start: int, n: int) -> None:
        if start + n > self.size:
            raise self.damaged("truncated", offset=start, size=self.size)
        if start + n > HEADER_LIMIT:
            raise self.damaged("header-too-long", offset=start, most=HEADER_LIMIT)

    def _fill(self, n: int) -> None:
        """Have the next `n` bytes in memory, and nothing before them."""
        start = self.offset
        self._check(start, n)
        if n > _LONGEST_STRING:
            raise self.damaged("string-too-long", offset=start, bytes=n, most=_LONGEST_STRING)
        try:
            self._data = os.pread(self._fd, max(n, _CHUNK), start)
        except OSError as error:
            raise self.unsupported("unreadable", reason=error.strerror) from error
        self._base, self._pos = start, 0
        if len(self._data) < n:  # it shrank since it was opened
            raise self.damaged("truncated", offset=start, size=start + len(self._data))
