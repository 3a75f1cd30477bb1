"""Debian, by mmdebstrap: one for this computer that builds, and the packages of a board."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from edge.bootstrap.build import run
from images.building.kept import kept
from images.building.room import EPOCH, Room, remove
from images.errors import ImageError
from images.publishing.component import Component
from images.publishing.packages import installed, unpacked

__all__ = ["BOARD", "components", "packages", "tools"]

BOARD = Path(__file__).parents[1] / "board"
"""What a board's file system has beside its packages, and lists of what it has of them."""

_SUITE = "trixie"
_MIRROR = "http://deb.debian.org/debian"
_TOOLS = (
    "bmap-tools", "console-setup", "cpio", "device-tree-compiler", "dosfstools", "e2fsprogs",
    "erofs-utils", "fdisk", "kmod", "libpam-runtime", "mtools", "ninja-build", "cmake",
    "g++-aarch64-linux-gnu", "python3", "qemu-efi-aarch64", "qemu-system-arm", "systemd",
    "xkb-data", "xz-utils", "zstd",
)  # fmt: skip
_TAKEN = ("console-setup-linux", "xkb-data")
"""Those of them that a board has something of: letters for its screen, keyboards."""
# Of trixie itself, Linux has no driver for the card of a Raspberry Pi 5.
_PINS = f"""\
Package: linux-* firmware-* raspi-firmware
Pin: release n={_SUITE}-backports
Pin-Priority: 900
"""
_SMALL = (
    "--aptopt=Apt::Install-Recommends \"false\"",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)  # fmt: skip
_LIST = "Packages"
_TOLD = f"/var/cache/apt/{_LIST}"
# There is no dpkg to ask afterwards: control fields and hashes are read off the archives.
_TELL = f"""\
for deb in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb -f "$deb" || exit
    echo "Filename: ${{deb##*/}}"
    echo "Size: $(stat -c %s "$deb")"
    echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"
    echo
done > "$1{_TOLD}"
"""


def tools(log: Path) -> Room:
    """The Debian that builds.

    Args:
        log: where its making is told.

    Raises:
        ImageError: mmdebstrap is not installed.
        BuildError: it failed.
    """

    def make(folder: Path) -> None:
        remove(folder / "root")
        _mmdebstrap(log, "--variant=apt", f"--include={','.join(_TOOLS)}", _SUITE,
                    str(folder / "root"), f"deb {_MIRROR} {_SUITE} main")  # fmt: skip

    return Room(kept("tools", [_SUITE, _TOOLS, _SMALL], make) / "root")


def packages(log: Path) -> Path:
    """An archive with the unpacked packages of a board; raises as `tools` does."""
    wanted = (BOARD / "packages").read_text(encoding="utf-8").split()
    kinds = "main non-free-firmware"

    def make(folder: Path) -> None:
        pins = folder / "pins"
        pins.write_text(_PINS, encoding="utf-8")
        _mmdebstrap(
            *(log, "--variant=extract", "--architectures=arm64", f"--include={','.join(wanted)}"),
            f"--setup-hook=upload {shlex.quote(str(pins))} /etc/apt/preferences.d/backports",
            f"--extract-hook={_TELL}",
            f"--extract-hook=download {_TOLD} {shlex.quote(str(folder / _LIST))}",
            f'--extract-hook=rm "$1{_TOLD}"',
            *(_SUITE, str(folder / "packages.tar")),
            f"deb {_MIRROR} {_SUITE} {kinds}",
            f"deb {_MIRROR} {_SUITE}-updates {kinds}",
            f"deb {_MIRROR} {_SUITE}-backports {kinds}",
            f"deb {_MIRROR.removesuffix('debian')}debian-security {_SUITE}-security {kinds}",
        )

    return kept("packages", [_SUITE, wanted, _PINS, _SMALL, _TELL], make) / "packages.tar"


def components(archive: Path, room: Room) -> list[Component]:
    """The packages of which a board has something.

    Args:
        archive: of `packages`.
        room: of `tools`.
    """
    listed = archive.with_name(_LIST)
    return [*unpacked(listed, archive, _SUITE), *installed(room.root, _TAKEN, _SUITE)]


def _mmdebstrap(log: Path, *arguments: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ImageError("build.no-mmdebstrap")
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        raise ImageError("build.no-uidmap")
    env = {"SOURCE_DATE_EPOCH": EPOCH}
    run(["mmdebstrap", *_SMALL, *arguments], log=log, env=env)
