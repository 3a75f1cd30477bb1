"""What those who look after this machine tell: the text of a file, or of each file of a folder."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from edge.errors import UsageError
from tui.untrusted import visible

__all__ = ["Notices"]

_LONGEST = 4000
"""Characters of each that are shown."""
_MOST = 16
"""Files of a folder that are read, by name; those that begin with a dot are being written."""

_Stamp = tuple[int, int, int]


class Notices:
    """Texts that may come, change and go while the chat is open.

    Args:
        path: of a file or a folder; where it is not there, there is nothing to tell.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[Path, tuple[_Stamp, str]] = {}

    @property
    def texts(self) -> list[str]:
        """All that there were when it was last looked, by name."""
        return [text for _, text in self._seen.values() if text]

    def look(self) -> list[str]:
        """Read what is new or was written again since it was last looked, and return that.

        What is told again in the same words is new: it answers something that was done again.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            found = dict(self._found())
        except OSError as error:
            reason = error.strerror
            raise UsageError("chat.no-notice", path=str(self._path), reason=reason) from error
        before, self._seen = self._seen, found
        return [told[1] for path, told in found.items() if told[1] and before.get(path) != told]

    def _found(self) -> Iterator[tuple[Path, tuple[_Stamp, str]]]:
        for path in self._files():
            try:
                facts = path.stat()
                stamp = facts.st_ino, facts.st_mtime_ns, facts.st_size
                known = self._seen.get(path)
                if known is not None and known[0] == stamp:
                    yield path, known
                elif stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
                    yield path, (stamp, _read(path))
            except FileNotFoundError:
                continue  # it has just been taken away

    def _files(self) -> list[Path]:
        try:
            names = sorted(path.name for path in self._path.iterdir() if path.name[0] != ".")
        except (FileNotFoundError, NotADirectoryError):
            return [self._path]
        return [self._path / name for name in names[:_MOST]]


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return visible(file.read(_LONGEST)).strip()
