"""One image on several cards at once: written, and read back.

The image is unpacked once, and every card has a thread that writes it: the slowest sets the pace,
and one that fails stops none of the others. The first MiB, by which a board boots, is zero until
all else is written and the image has proved to be whole: a card that is not finished does not boot.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Event, Lock, Thread
from typing import TypeAlias

from edge.progress import Progress
from edge.quantity import size_text
from images.errors import ImageError
from images.flashing.source import BLOCK, Image

__all__ = ["Card", "write"]

_HEAD = 1 << 20
_AHEAD = 4
"""Blocks that wait for a card."""
_SYNCED_EVERY = 4 * BLOCK
"""So that what is called written is on the card, and not in memory."""
_BLKFLSBUF = 0x1261
"""From <linux/fs.h>: forget what is cached of a block device."""
_BLKRRPART = 0x125F
"""From <linux/fs.h>: read the partition table again."""
_GONE = (errno.ENOENT, errno.ENXIO, errno.ENODEV)
"""What is said of a device that is not there."""


class _Barrier:
    """What was given before is on the card before what comes after it."""


_Work: TypeAlias = tuple[int, bytes] | _Barrier


@dataclass(slots=True)
class Card:
    """A card that is written."""

    path: Path
    size: int
    error: ImageError | None = None
    """Why it failed."""
    _fd: int = -1
    _queue: Queue[_Work | None] = field(default_factory=lambda: Queue(_AHEAD))
    _unsynced: int = 0

    def open(self) -> None:
        """Take it for oneself.

        Raises:
            ImageError: it is mounted or in use, or one has no right to.
        """
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            raise _failed(self, error) from error

    def close(self) -> None:
        """Let it go, and have the system look for its partitions."""
        if self._fd >= 0:
            if self._is_block_device():
                _quietly(lambda: fcntl.ioctl(self._fd, _BLKRRPART))
            os.close(self._fd)
            self._fd = -1

    def run(self) -> None:
        """Write what comes, until None does; after a failure it is thrown away."""
        while (work := self._queue.get()) is not None:
            if self.error is not None:
                continue
            if isinstance(work, _Barrier):
                self._try(lambda: os.fdatasync(self._fd))
            else:
                self._try(lambda work=work: self._put(*work))  # type: ignore[misc]
        if self.error is None:
            self._try(lambda: os.fsync(self._fd))

    def give(self, work: _Work | None) -> None:
        """Offset and bytes to write, or what these have to wait for; None: there is no more."""
        self._queue.put(work)

    def forget_cache(self) -> None:
        """Make reading ask the card."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if self._is_block_device():
            _quietly(lambda: fcntl.ioctl(self._fd, _BLKFLSBUF))

    def compare(self, written: Sequence[_Written], told: Callable[[int], object]) -> None:
        """Read back what was written."""
        for block in written:
            data = self._try(lambda block=block: _read(self._fd, block.offset, block.size))  # type: ignore[misc]
            if self.error is not None:
                return
            if hashlib.sha256(data or b"").digest() != block.sha256:
                differs = ImageError("flash.differs", path=str(self.path), offset=block.offset)
                self.error = self._pulled_out() or differs
                return
            told(block.size)

    def _put(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            if not done:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view, offset = view[done:], offset + done
        self._unsynced += len(data)
        if self._unsynced >= _SYNCED_EVERY:
            os.fdatasync(self._fd)
            self._unsynced = 0

    def _try(self, work: Callable[[], bytes | None]) -> bytes | None:
        try:
            return work()
        except (OSError, MemoryError) as error:  # a thread that ended would have the others wait
            self.error = self._pulled_out() or _failed(self, error)
            return None

    def _pulled_out(self) -> ImageError | None:
        """Whether it is there no more: of such a card Linux says that it is full, broken, or ends.

        One that is open keeps the size of what was in its reader; who opens it anew is told.
        """
        if not self._is_block_device():
            return None
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            gone = error.errno in (*_GONE, errno.ENOMEDIUM)
        else:
            gone = os.lseek(fd, 0, os.SEEK_END) == 0
            os.close(fd)
        return ImageError("flash.gone", path=str(self.path)) if gone else None

    def _is_block_device(self) -> bool:
        return stat.S_ISBLK(os.fstat(self._fd).st_mode)


@dataclass(frozen=True, slots=True)
class _Written:
    offset: int
    size: int
    sha256: bytes


def write(
    image: Image,
    cards: Sequence[Card],
    stage: Callable[[str], Progress],
    told: Callable[[float], object] = lambda _: None,
) -> None:
    """Write an image on cards, and read it back; a card that fails has an `error` then.

    Args:
        image: what to write.
        cards: all different.
        stage: told what is being done, `write` or `verify`, with bytes.
        told: called with the bytes a second that each card takes.

    Raises:
        ImageError: the image is damaged, and no card boots.
    """
    try:
        for card in cards:
            try:
                card.open()
            except ImageError as error:
                card.error = error
        written = _write(image, _sound(cards), stage("write"), told)
        _verify(_sound(cards), written, stage("verify"))
    finally:
        for card in cards:
            card.close()


def _sound(cards: Sequence[Card]) -> list[Card]:
    return [card for card in cards if card.error is None]


def _write(
    image: Image, cards: Sequence[Card], progress: Progress, told: Callable[[float], object]
) -> list[_Written]:
    threads = [Thread(target=card.run, name=str(card.path)) for card in cards]
    for thread in threads:
        thread.start()
    began, done = time.monotonic(), 0
    written: list[_Written] = []
    head: list[tuple[int, bytes]] = []

    def give(offset: int, data: bytes) -> None:
        written.append(_Written(offset, len(data), hashlib.sha256(data).digest()))
        for card in cards:
            card.give((offset, data))

    try:
        for card in cards:
            # A table of partitions at the old end, as GPT has one, would be found again.
            card.give((0, bytes(min(_HEAD, card.size))))
            card.give((max(0, card.size - _HEAD), bytes(min(_HEAD, card.size))))
            card.give(_Barrier())
        for offset, data in image.blocks(progress):
            if not _sound(cards):
                return written
            if kept := data[: max(0, _HEAD - offset)]:
                head.append((offset, kept))
            if len(kept) < len(data):
                give(offset + len(kept), data[len(kept) :])
            done += len(data)
            told(done / max(time.monotonic() - began, 1e-9))
        for card in cards:
            card.give(_Barrier())
        for offset, data in head:
            give(offset, data)
    finally:
        for card in cards:
            card.give(None)
        for thread in threads:
            thread.join()
    return written


def _verify(cards: Sequence[Card], written: Sequence[_Written], progress: Progress) -> None:
    total = len(cards) * sum(block.size for block in written)
    lock, stopped, done = Lock(), Event(), 0

    def told(size: int) -> None:
        nonlocal done
        if stopped.is_set():
            raise InterruptedError
        with lock:
            done += size
            progress(done, total)

    def compare(card: Card) -> None:
        card.forget_cache()
        card.compare(written, told)

    if not cards:
        return
    with ThreadPoolExecutor(len(cards)) as pool:
        try:
            list(pool.map(compare, cards))
        except BaseException:
            stopped.set()
            raise


def _read(fd: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


def _failed(card: Card, error: OSError | MemoryError) -> ImageError:
    codes = {
        errno.EACCES: "flash.rights",
        errno.EPERM: "flash.rights",
        errno.EBUSY: "flash.busy",
        errno.ENOSPC: "flash.too-small",
        errno.ENOMEDIUM: "flash.empty",
        errno.EROFS: "flash.locked",
    } | dict.fromkeys(_GONE, "flash.gone")
    code, reason = "flash.failed", str(error) or type(error).__name__
    if isinstance(error, OSError):
        code, reason = codes.get(error.errno or 0, code), error.strerror or reason
    return ImageError(code, path=str(card.path), size=size_text(card.size), reason=reason)


def _quietly(work: Callable[[], object]) -> None:
    """What is good to have, and not in every case allowed."""
    try:
        work()
    except OSError:
        return
