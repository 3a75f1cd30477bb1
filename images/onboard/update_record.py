"""What a board remembers of its updates, on the partition that outlives systems."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from images.onboard.slots import Slot
from images.onboard.update_file import SYSTEM, Manifest
from images.onboard.writing import replace

__all__ = ["Record", "Records", "day"]

_FOLDER = Path("/data/update")


class Record(BaseModel):
    """One of them. A later version may write more, and this one may run again after it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    root: str
    """SHA-256 of its system."""
    version: str
    made: AwareDatetime
    screen: bool = False
    """Whether the board had one when it was laid."""
    slot: str | None = None
    """Letter of its place on the card; None: a version that wrote none has laid it."""
    returned: bool = False
    """It did not come as far as the chat, and the one before runs again."""

    @classmethod
    def of(cls, manifest: Manifest, slot: Slot, *, screen: bool = False) -> Self:
        """What is remembered of an update."""
        root = manifest.files[SYSTEM].sha256
        return cls(root=root, version=manifest.version, made=manifest.made, screen=screen,
                   slot=slot.letter)  # fmt: skip


class _Known(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    running: Record | None = None
    laid: Record | None = None


class Records:
    """All that is remembered.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "records.json"

    @classmethod
    def here(cls) -> Self:
        """Those of this board."""
        return cls(_FOLDER)

    @property
    def running(self) -> Record | None:
        """The update that was the last to reach the chat; None: there was none."""
        return self._known().running

    def running_in(self, slot: Slot) -> Record | None:
        """The update that runs in that slot; None: another system does.

        That is the card's first one, or the one before, whose letter somebody has written back.
        """
        running = self.running
        return running if running and running.slot in (None, slot.letter) else None

    @property
    def last_laid(self) -> Record | None:
        """The one that was put on the card after it."""
        return self._known().laid

    def laid(self, record: Record) -> None:
        """It lies on the card, and has not been started."""
        self._write(_Known(running=self.running, laid=record))

    def reached_the_chat(self) -> Record | None:
        """The one that was laid is the one that runs; gives it."""
        laid = self.last_laid
        if laid is not None:
            self._write(_Known(running=laid))
        return laid

    def returned(self) -> Record | None:
        """The one that was laid did not come so far; gives it."""
        laid = self.last_laid
        if laid is not None:
            laid = laid.model_copy(update={"returned": True})
            self._write(_Known(running=self.running, laid=laid))
        return laid

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have no other process take an update meanwhile: of two sticks, one waits."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder for what an update brings, gone at the end."""
        folder = self._folder / "draft"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _known(self) -> _Known:
        try:
            return _Known.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return _Known()

    def _write(self, known: _Known) -> None:
        replace(self._file, known.model_dump_json().encode(), 0o600)


def day(record: Record) -> str:
    """When it was made."""
    return record.made.date().isoformat()
