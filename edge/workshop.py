"""Where what takes long is made: a hidden folder beside its place, on the same disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from edge import __version__
from edge.bundle import DRAFT_PREFIX
from edge.errors import StoreError, UsageError
from edge.interrupt import later
from edge.quantity import size_text
from edge.store import NAME

__all__ = [
    "check_free",
    "check_room",
    "draft_folder",
    "held",
    "is_at",
    "link_or_copy",
    "software",
    "workshop",
]


class _NoRoomError(OSError):
    """A disk that will be full."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.sizes = {"needed": size_text(needed), "free": size_text(free)}


def check_free(out: Path) -> None:
    """Refuse a place where no bundle can be made, before anything is read for it.

    Raises:
        UsageError: no bundle can be called so.
        StoreError: there is an `out` already.
    """
    if not NAME.fullmatch(out.name):
        raise UsageError("workshop.name", name=ascii(out.name))
    if out.exists() or out.is_symlink():
        raise StoreError("bundle.exists", path=str(out))


def check_room(folder: Path, size: int) -> None:
    """Refuse to write more than there is room for, before the disk is full.

    Raises:
        OSError: the disk of `folder` has less than `size` bytes left.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise _NoRoomError(size, free)


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder to make the bundle `out` in; it is removed at the end, whatever happens.

    Raises:
        UsageError: no bundle can be called so.
        StoreError: there is an `out` already; the disk is full, or takes nothing.
    """
    check_free(out)
    try:
        with draft_folder(out) as folder:
            yield folder
    except _NoRoomError as error:
        raise StoreError("workshop.no-room", path=str(out.parent), **error.sizes) from error
    except OSError as error:
        code = "workshop.full" if error.errno == errno.ENOSPC else "workshop.unwritable"
        reason = error.strerror or str(error)
        raise StoreError(code, path=str(out.parent), reason=reason) from error


@contextmanager
def draft_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, which is removed at the end, whatever happens.

    What a killed process has left of making the same goes, too.

    Raises:
        OSError: the disk is full, or takes nothing.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{DRAFT_PREFIX}{out.name}-"
    _sweep(out.parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
    try:
        with held(folder):
            yield folder
    finally:
        with later():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Show others that somebody is at work there.

    Raises:
        BlockingIOError: somebody else is, or was until just now and has removed it.
    """
    busy = BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(folder))
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise busy from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_at(folder, fd):
            raise busy
        yield
    finally:
        os.close(fd)


def is_at(path: Path, fd: int) -> bool:
    """Whether what is open still has that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _sweep(parent: Path, prefix: str) -> None:
    """Clear what a killed process has left of making the same."""
    for left in parent.iterdir():
        if left.name.startswith(prefix) and left.is_dir() and not left.is_symlink():
            with suppress(OSError), held(left):
                shutil.rmtree(left, ignore_errors=True)  # some of it may be another user's


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under another name, without a copy where the disk can.

    Raises:
        OSError: it cannot; the disk is full, or takes nothing.
    """
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)


def software(*packages: str) -> dict[str, str]:
    """Versions of this program and of `packages`, for a manifest."""
    return {"lucie-edge": __version__} | {name: version(name) for name in packages}
