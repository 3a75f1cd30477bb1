"""A card whose power is cut: what is on it, whenever that happens.

QEMU's `blklogwrites` notes every write and every flush of a card in the format of Linux's
dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst). So one run of a machine is
as many cuts as there are writes. What was written before the last flush is there; of what was
written since, a card has kept some and not the rest.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x6A736677736872
_ENTRY = struct.Struct("<QQQQ")
_FLUSH, _FUA, _DISCARD = 1, 2, 4
SECTOR = 512


@dataclass(frozen=True)
class Write:
    at: int
    """In bytes, on the card."""
    log: int
    """In bytes, where the log has its data."""
    size: int
    flushes: bool
    """What was written before is on the card now."""
    sure: bool
    """It is on the card itself now."""


def logged(command: list[str], log: str) -> list[str]:
    """A machine's command with the writes of its card logged, in the folder where it is."""
    plain = "file=card.img,format=raw"
    noted = (
        "driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename=card.img,"
        f"log.driver=file,log.filename={log}"
    )
    assert any(word.endswith(plain) for word in command)
    return [word.replace(plain, noted) for word in command]


def writes(log: Path) -> list[Write]:
    """All that a log has, in their order."""
    return list(_writes(log))


def _writes(log: Path) -> Iterator[Write]:
    with log.open("rb") as file:
        magic, _, _, sector = struct.unpack("<QQQI", file.read(28))
        assert magic == MAGIC
        at, end = sector, log.stat().st_size
        while at + sector <= end:
            file.seek(at)
            where, count, flags, _ = _ENTRY.unpack(file.read(_ENTRY.size))
            at += sector
            if where == count == flags == 0:
                return  # not written any more
            size = 0 if flags & _DISCARD else count * sector
            yield Write(where * sector, at, size, bool(flags & _FLUSH), bool(flags & _FUA))
            at += size


def cut(card: Path, log: Path, found: list[Write], after: int, chance: random.Random) -> None:
    """Make of a card what it is when the power is cut after so many writes.

    Args:
        card: as it was before the machine was started.
        found: `writes(log)`.
        chance: decides what a card has kept of what no flush has made sure of.
    """
    past = found[:after]
    sure_before = max((n for n, write in enumerate(past) if write.flushes), default=0)
    with card.open("r+b") as target, log.open("rb") as source:
        for n, write in enumerate(past):
            if n < sure_before or write.sure or chance.random() < 0.5:
                source.seek(write.log)
                target.seek(write.at)
                target.write(source.read(write.size))


def partition(card: Path, number: int) -> tuple[int, int]:
    """Start and size of a partition, in bytes, by the table in the first sector."""
    with card.open("rb") as file:
        file.seek(446 + 16 * (number - 1) + 8)
        start, sectors = struct.unpack("<II", file.read(8))
    return start * SECTOR, sectors * SECTOR


def take_out(card: Path, number: int, to: Path) -> None:
    """Copy a partition out of a card."""
    start, size = partition(card, number)
    place = f"if={card}", f"of={to}", "bs=1M", "conv=sparse", "iflag=skip_bytes,count_bytes"
    subprocess.run(["dd", *place, f"skip={start}", f"count={size}", "status=none"], check=True)
