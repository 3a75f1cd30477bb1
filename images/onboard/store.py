"""The models of a board: root's, in a folder of the account that runs them and is not trusted.

`/data/lucie` is that account's: whatever it puts there, a link say, leads root nowhere else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.bundle import DRAFT_PREFIX, Bundle
from edge.errors import ModelError
from edge.manifest import Manifest
from images.onboard.writing import remove, replace

__all__ = ["HOME", "Shelf", "choice", "in_use", "shelf", "use"]

HOME = Path("/data/lucie")
_CHOSEN = Path("/data/server/model")
"""The file that says which one the server loads: `LUCIE_MODEL=NAME`. Root's, in a folder of root's:
systemd reads it, which would follow a link, and wait for a pipe."""
_VARIABLE = "LUCIE_MODEL="
_PLACE = ("data", "models")
_SPARE = 64 << 20
"""Bytes of a card that stay free for conversations."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where models are, held open."""

    root: Path
    """Of the models."""

    def names(self) -> list[str]:
        """Of what lies there as a model.

        Raises:
            OSError: it cannot be read.
        """
        return sorted(each.name for each in self.root.iterdir() if not each.name.startswith("."))

    def bundle(self, name: str) -> Bundle:
        """The model of that name, whose content is not read.

        Raises:
            ModelError: there is none, or one that is damaged.
        """
        return Bundle.open(self.root / name, verify=False)

    def manifest(self, name: str) -> Manifest | None:
        """Of the model of that name; None: there is none, or one that is damaged."""
        try:
            return self.bundle(name).manifest
        except ModelError:
            return None

    def has(self, name: str) -> bool:
        """Whether that model is there, byte for byte what its manifest says: all of it is read."""
        try:
            Bundle.open(self.root / name, verify=True)
        except ModelError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove the model of that name: of one whose plug is pulled meanwhile nothing shows.

        Raises:
            OSError: it cannot be removed.
        """
        hidden = self.root / f"{DRAFT_PREFIX}{name}"
        (self.root / name).rename(hidden)
        remove(hidden)

    def is_damaged(self, name: str) -> bool:
        """Whether something lies in that model's place that no system of a board can use."""
        try:
            self.bundle(name)
        except ModelError as error:
            # One of a later format is whole, for the system of the next update.
            return error.code != "bundle.newer-format" and os.path.lexists(self.root / name)
        return False

    def size(self, name: str) -> int:
        """Bytes of the card that what lies there as that model takes.

        Raises:
            OSError: the card cannot be read.
        """
        return sum(each.lstat().st_blocks * 512 for each in (self.root / name).rglob("*"))

    def room(self, name: str, *, lost: bool = False) -> int:
        """Bytes that a model of that name may take.

        Those of a damaged one in its place are among them however full the card is.

        Args:
            name: of the model.
            lost: what lies in its place is damaged, though only reading all of it tells.

        Raises:
            OSError: the card cannot be read.
        """
        freed = self.size(name) if lost or self.is_damaged(name) else 0
        return max(shutil.disk_usage(self.root).free - _SPARE, 0) + freed

    def take(self, bundle: Bundle, *, lost: bool = False) -> None:
        """Copy a bundle, whose files must be what its manifest says, all of it or nothing.

        A damaged one in its place is removed first: the card may have no room for both.

        Args:
            bundle: of a stick.
            lost: see `room`.

        Raises:
            LucieError: it is damaged.
            OSError: it cannot be read or written.
        """
        if lost or self.is_damaged(bundle.manifest.name):
            self.remove(bundle.manifest.name)
        files = {name: bundle.path / name for name in bundle.manifest.files}
        Bundle.write(self.root / bundle.manifest.name, bundle.manifest, files)

    def clear(self) -> None:
        """Remove what a copy has left that was cut off, or a removal.

        Raises:
            OSError: it cannot be removed.
        """
        for draft in self.root.glob(f"{DRAFT_PREFIX}*"):
            remove(draft)


def choice(name: str) -> bytes:
    """The lines of a file that has the server load that model."""
    return f"{_VARIABLE}{name}\n".encode()


def in_use() -> str:
    """The name of the model that the server loads; "" where none is named."""
    try:
        lines = _CHOSEN.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    named = [line.removeprefix(_VARIABLE) for line in lines if line.startswith(_VARIABLE)]
    return named[-1] if named else ""


def use(name: str) -> None:
    """Have the server load that one from its next start on.

    Raises:
        OSError: it cannot be written.
    """
    replace(_CHOSEN, choice(name))


@contextmanager
def shelf() -> Iterator[Shelf]:
    """The models of this board.

    Raises:
        OSError: they cannot be reached, as where something else lies in their place.
    """
    held = list[int]()
    try:
        held.append(os.open(HOME, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
        for part in _PLACE:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            held.append(os.open(part, flags, dir_fd=held[-1]))
        if os.fstat(held[-1]).st_uid != os.geteuid():
            raise PermissionError(1, os.strerror(1), str(HOME.joinpath(*_PLACE)))
        yield Shelf(Path(f"/proc/self/fd/{held[-1]}"))
    finally:
        for descriptor in held:
            os.close(descriptor)
