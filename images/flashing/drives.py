"""The drives of this computer as `lsblk` knows them, and which of them may be overwritten."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from images.errors import ImageError, ImageUsageError

__all__ = ["Drive", "drive", "drives", "removable", "unmount"]

_COLUMNS = "NAME,TYPE,SIZE,VENDOR,MODEL,TRAN,RM,HOTPLUG,RO,MOUNTPOINTS"
_BLOCKS = Path("/sys/class/block")
"""Where Linux tells, in `NAME/device/type`, an SD card from eMMC, which is soldered in."""
_BY_DESKTOPS = (Path("/media"), Path("/run/media"))
"""Where desktops mount what is plugged in."""


class _Node(BaseModel):
    name: Path
    type: str
    size: int
    vendor: str | None = None
    model: str | None = None
    tran: str | None = None
    rm: bool
    hotplug: bool
    ro: bool
    mountpoints: list[str | None]
    children: list[_Node] = []


class _Listing(BaseModel):
    blockdevices: list[_Node]


@dataclass(frozen=True, slots=True)
class Drive:
    """A block device: a card, a stick, a disk."""

    path: Path
    kind: str
    """`disk`, `part`, `loop`…"""
    size: int
    """In bytes; 0 for a reader without a card."""
    name: str
    """Who made it, and how they call it."""
    removable: bool
    read_only: bool
    mounts: tuple[str, ...]
    """Where it and its partitions are mounted; `[SWAP]`, where it is memory."""


def drives() -> list[Drive]:
    """All whole drives.

    Raises:
        ImageError: `lsblk` is not there, or fails.
    """
    return [_drive(node) for node in _listed() if node.type == "disk"]


def removable() -> list[Drive]:
    """Those that one can pull out, that hold something, and that this computer does not run on."""
    return [
        drive for drive in drives() if drive.removable and drive.size and not _in_use(drive)
    ]  # fmt: skip


def drive(path: Path) -> Drive:
    """What is at `path`, if it may be overwritten.

    Raises:
        ImageUsageError: it is no drive, a part of one, or one that this computer needs.
        ImageError: there is no card in it, or it is locked.
    """
    if not path.is_block_device():
        code = "flash.no-drive" if path.exists() else "flash.missing"
        raise ImageUsageError(code, path=str(path))
    node = _listed(path.resolve())[0]
    found = _drive(node)
    if found.kind not in ("disk", "loop"):
        raise ImageUsageError("flash.part", path=str(path), kind=found.kind)
    if used := _in_use(found):
        raise ImageUsageError("flash.system", path=str(path), name=found.name, mount=used)
    # A loop device is a file: whoever names one means it.
    if not found.removable and found.kind != "loop":
        raise ImageUsageError("flash.fixed", path=str(path), name=found.name)
    if not found.size:
        raise ImageError("flash.empty", path=str(path))
    if found.read_only:
        raise ImageError("flash.locked", path=str(path))
    return found


def unmount(drive: Drive) -> None:
    """Take away what a desktop has mounted of it.

    Raises:
        ImageError: a program has a file open there.
    """
    for mount in drive.mounts:
        command = ["umount", "--", mount]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or [str(done.returncode)]
            raise ImageError("flash.mounted", path=str(drive.path), mount=mount, reason=reason[0])


def _in_use(drive: Drive) -> str | None:
    """A place of the system that is on it."""
    for mount in drive.mounts:
        if not any(Path(mount).is_relative_to(place) for place in _BY_DESKTOPS):
            return mount
    return None


_NOTHING = '{"blockdevices": []}'
"""What lsblk does not say, when there is nothing."""


def _listed(*paths: Path) -> list[_Node]:
    command = ["lsblk", "--json", "--bytes", "--paths", "--output", _COLUMNS, *map(str, paths)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = _Listing.model_validate_json(done.stdout or _NOTHING).blockdevices
    except (OSError, ValidationError) as error:
        raise ImageError("flash.lsblk", reason=str(error).splitlines()[0]) from error
    if not found and paths:  # as of a loop device without a file
        raise ImageError("flash.empty", path=str(paths[0]))
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [str(done.returncode)]
        raise ImageError("flash.lsblk", reason=said[-1])
    return found


def _drive(node: _Node) -> Drive:
    words = (word.strip() for word in (node.vendor, node.model) if word)
    transport = node.tran or ("mmc" if node.name.name.startswith("mmcblk") else "")
    return Drive(
        path=node.name,
        kind=node.type,
        size=node.size,
        name=" ".join(word for word in words if word) or transport or node.type,
        removable=_removable(node, transport),
        read_only=node.ro,
        mounts=tuple(dict.fromkeys(_mounts(node))),
    )


def _removable(node: _Node, transport: str) -> bool:
    """Whether one can pull it out: to `lsblk`, eMMC is as hot-pluggable as a card.

    Its parts that hold what a computer starts by have no type at all.
    """
    if transport != "mmc":
        return node.rm or node.hotplug or transport == "usb"
    kind = _BLOCKS / node.name.name / "device/type"
    return kind.is_file() and kind.read_text(encoding="ascii").strip() == "SD"


def _mounts(node: _Node) -> Iterator[str]:
    yield from (mount for mount in node.mountpoints if mount)
    for child in node.children:
        yield from _mounts(child)
