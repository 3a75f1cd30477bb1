"""A stick in the board: whether it is there, and where it can be read."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from images.onboard.news import say
from images.onboard.programs import output, run

__all__ = ["RUN", "is_board", "is_pulled", "is_there", "mounted", "reason_of"]

RUN = Path("/run/lucie-stick")
"""Root's, for what is known of sticks until the board is switched off."""
_BLOCK = Path("/sys/class/block")
_MOUNTS = Path("/proc/self/mounts")
# An ext4 may ask the kernel to panic, and may have a journal that wants to be written.
_OPTIONS = {"vfat": "", "exfat": "", "ext4": ",noload,errors=continue"}
_AMBIVALENT = 8
"""What blkid(8) ends with where there are traces of two."""
_SAFE = "ro,nosuid,nodev,noexec,nosymfollow"
_TRIES = 15
"""A fifth of a second each: all fails a moment before Linux knows that a stick is gone."""


@contextmanager
def mounted(device: str) -> Iterator[Path]:
    """Where a stick can be read: nobody else sees it there, and it ends with this process.

    Raises:
        OSError: it has no file system that is known, or fails.
    """
    kind = _kind(device)
    # Of each process its own: what is mounted on a folder goes, for all, when that is removed.
    folder = Path(tempfile.mkdtemp(dir=RUN, prefix=f"{device}-"))
    try:
        _mount(device, kind, folder)
        yield folder
    finally:
        run("umount", "--lazy", str(folder))
        with suppress(OSError):  # nothing is left in it, and it is in memory
            folder.rmdir()


def _kind(device: str) -> str:
    """Of the file system of a stick: one of those that are read."""
    found = run("blkid", "-p", "-o", "value", "-s", "TYPE", f"/dev/{device}")
    kind = found.stdout.strip()
    if found.returncode == _AMBIVALENT:
        raise OSError(0, say("stick.two-kinds"))
    if not kind:
        raise OSError(0, say("stick.no-kind"))
    if kind not in _OPTIONS:
        raise OSError(0, say("stick.no-system", kind=ascii(kind)[1:-1]))
    return kind


def _mount(device: str, kind: str, folder: Path) -> None:
    try:
        output("mount", "-t", kind, "-o", _SAFE + _OPTIONS[kind], f"/dev/{device}", str(folder))
    except OSError as error:
        if "wrong fs type" in str(error):  # and what else it thinks of: Linux tells it no more
            raise OSError(0, say("stick.damaged-system", kind=kind)) from error
        raise


def is_there(device: str) -> bool:
    """Whether Linux knows it."""
    return (_BLOCK / device).exists()


def is_board(device: str) -> bool:
    """Whether the board itself has started from it."""
    return _disk(device) == _disk(_data())


def is_pulled(device: str) -> bool:
    """Whether an error is of a stick that is not there any more."""
    for _ in range(_TRIES):
        if not is_there(device):
            return True
        time.sleep(0.2)
    return False


def _disk(device: str) -> str:
    """The disk that it is a part of, or itself."""
    place = (_BLOCK / device).resolve()
    return place.parent.name if (place / "partition").exists() else device


def _data() -> str:
    """The device of the board's own models."""
    lines = (line.split() for line in _MOUNTS.read_text(encoding="utf-8").splitlines())
    return next((Path(line[0]).name for line in lines if line[1:2] == ["/data"]), "")


def reason_of(error: OSError) -> str:
    """What the system says, or we do in its place."""
    return error.strerror or type(error).__name__
