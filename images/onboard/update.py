"""An update on a stick becomes the system that starts next, on trial.

    signature ──▶ does it follow what runs? ──▶ other partition, other folder ──▶ one letter

What runs is not touched: until the letter is written, and after it, a pulled plug or stick leaves
a card that starts.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

from edge import streams
from edge.errors import LucieError
from edge.manifest import File
from edge.quantity import size_text
from images.errors import ImageError
from images.onboard.boot_partition import writable
from images.onboard.bundles import names
from images.onboard.mounting import mounted
from images.onboard.news import say, tell
from images.onboard.screen import has_screen
from images.onboard.slots import Card
from images.onboard.update_file import (
    BOOT,
    CMDLINE,
    SIGNERS,
    SUFFIX,
    SYSTEM,
    Manifest,
    Update,
    is_update,
    opened,
)
from images.onboard.update_record import Record, Records, day

__all__ = ["main", "newest", "take"]

_BLOCK = 1 << 20
_MOST = 8
"""Files of a stick that are looked at."""


def main(arguments: Sequence[str]) -> int:
    """Take the update on the stick of that device; what comes of it is told in the chat."""
    [device] = arguments
    if device == "--ended":
        return _ended(os.environ.get("SERVICE_RESULT", "success"))
    try:
        with mounted(device) as stick:
            record = take(newest(stick, SIGNERS), Card.here(), SIGNERS, Records.here(), _reading)
    except LucieError as error:
        return _tell(str(error), 1)
    except OSError as error:
        what = "full" if error.errno == errno.ENOSPC else "stopped"
        return _tell(say(f"update.{what}", reason=error.strerror or str(error)), 1)
    return _tell(say("update.ready", version=record.version, day=day(record)), 0)


def _ended(result: str) -> int:
    """Tell of one that could not tell it itself: `result` is systemd's word for it."""
    if result not in {"success", "exit-code"}:
        tell("update", say("update.stopped", reason=result))
    return 0


def newest(stick: Path, signers: Path) -> Path:
    """Of the updates in the top folder that are signed, the one that was made last.

    Raises:
        ImageError: none of them is.
        OSError: the stick cannot be read.
    """
    found, wrong = list[tuple[datetime, Path]](), list[ImageError]()
    for name in names(stick, is_update)[:_MOST]:
        try:
            with opened(stick / name, signers) as update:
                found.append((update.manifest.made, stick / name))
        except ImageError as error:
            wrong.append(error)
    if found:
        return max(found)[1]
    raise wrong[0] if wrong else ImageError("update.none", path=SUFFIX)


def _reading(record: Record, size: int) -> None:
    facts = {"version": record.version, "day": day(record), "size": size_text(size)}
    _tell(say("update.reading", **facts), 0)


def _tell(said: str, code: int) -> int:
    streams.tell(said)
    tell("update", said)
    return code


def take(
    file: Path,
    card: Card,
    signers: Path,
    records: Records,
    reading: Callable[[Record, int], object] = lambda *_: None,
) -> Record:
    """Lay an update beside the system that runs, to be started next.

    Args:
        file: as `lucie image update` makes one.
        signers: see `opened`.
        records: what this board knows of its updates.
        reading: called with its bytes when it is one to take, before it is read.

    Raises:
        ImageError: it is none for this board, which stays as it is.
        OSError: the stick or the card fails; the same holds.
    """
    with records.held(), opened(file, signers) as update:
        _must_follow(update.manifest, card, records)
        record = Record.of(update.manifest, card.running.other, screen=has_screen())
        reading(record, sum(each.size for each in update.manifest.files.values()))
        if card.trial is not None:  # one that was laid and never started
            with writable(card.boot):
                card.withdraw()
        with records.draft() as draft:
            _write(update, card, draft)
            records.laid(record)
            with writable(card.boot):
                _start_next(card, draft)
    return record


def _must_follow(new: Manifest, card: Card, records: Records) -> None:
    root = new.files[SYSTEM].sha256
    running, laid, trial = records.running_in(card.running), records.last_laid, card.trial
    if trial is not None and trial.before != card.running:
        same = laid is not None and laid.root == root
        raise ImageError("update.tries" if same else "update.on-trial", version=new.version)
    if root == running.root if running else root.startswith(card.signature):
        raise ImageError("update.runs", version=new.version)
    if laid is not None and laid.root == root:
        if laid.returned:
            raise ImageError("update.returned", version=new.version, day=day(laid))
        if trial is not None:
            raise ImageError("update.ready", version=new.version, day=day(laid))
    if running is not None and new.made < running.made:
        raise ImageError("update.older", version=new.version, day=day(running))


def _write(update: Update, card: Card, draft: Path) -> None:
    """Everything to where it does no harm, compared with what was signed."""
    for name, content in update.files():
        expected = update.manifest.files[name]
        if name == SYSTEM:
            _write_system(content, expected, card)
            continue
        place = draft / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as opened_file:
            _must_be(expected, _copy(content, opened_file), name)


def _start_next(card: Card, draft: Path) -> None:
    other, words = card.running.other, (draft / CMDLINE).read_text(encoding="utf-8")
    try:
        card.lay_boot_files(other, draft / BOOT, words)
        card.begin_trial(other)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ImageError("update.boot-full") from error
        raise


def _write_system(content: Iterator[bytes], expected: File, card: Card) -> None:
    with card.partitions[card.running.other.number].open("r+b", buffering=0) as partition:
        room = partition.seek(0, os.SEEK_END)
        if room < expected.size:
            raise ImageError("update.no-room", size=size_text(expected.size), room=size_text(room))
        partition.seek(0)
        _must_be(expected, _copy(content, partition), SYSTEM)
        os.fsync(partition.fileno())
        # What the card gives back counts, not what is still in memory.
        os.posix_fadvise(partition.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        partition.seek(0)
        _must_be(expected, _hash(partition, expected.size), SYSTEM)


def _copy(content: Iterator[bytes], file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in content:
        file.write(block)
        digest.update(block)
    return digest.hexdigest()


def _hash(file: IO[bytes], size: int) -> str:
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def _must_be(expected: File, found: str, name: str) -> None:
    if found != expected.sha256:
        raise ImageError("update.other-hash", file=name)
