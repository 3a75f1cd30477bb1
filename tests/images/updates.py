"""Updates and cards for tests."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from images.building.update import pack
from images.onboard.slots import Card, Slot
from images.onboard.update_file import NAMESPACE, SIGNER

MADE = datetime(2026, 11, 26, 12, tzinfo=UTC)
CONFIG = "# os_prefix=C/\nos_prefix=A/\narm_64bit=1\n"
LOADER = "timeout 0\ndefault A.conf\n"
ENTRY = "title Lucie\nlinux /A/vmlinuz\ninitrd /A/initrd\noptions psi=1 lucie.root=2\n"


def ssh_key(folder: Path, name: str = "key") -> Path:
    """A pair of keys, as everybody makes them."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return folder / name


def signers(key: Path) -> Path:
    """What a board has that trusts this key."""
    public = key.with_name(f"{key.name}.pub").read_text()
    file = key.with_name("signers")
    file.write_text(f'{SIGNER} namespaces="{NAMESPACE}" {public}')
    return file


def update(
    folder: Path, key: Path, *, system: bytes = b"new" * 1000, made: datetime = MADE
) -> Path:
    """An update."""
    files = folder / "files"
    (files / "boot/overlays").mkdir(parents=True, exist_ok=True)
    (files / "root.erofs").write_bytes(system)
    for name in ("vmlinuz", "initrd", "overlays/README"):
        (files / "boot" / name).write_text(f"new {name}")
    (files / "boot/cmdline.txt").write_text("console=tty1 quiet\n")
    out = folder / f"{made:%Y%m%d%H%M}-{len(system)}.lucie-update"
    pack(files, made, key, out)
    return out


def card(folder: Path, *, room: int = 4096) -> Card:
    """A card whose system A runs, and which UEFI could start, too."""
    boot = folder / "boot"
    (boot / "A").mkdir(parents=True)
    (boot / "A/cmdline.txt").write_text("console=tty1 lucie.disk=0011aabb lucie.root=2\n")
    (boot / "loader/entries").mkdir(parents=True)
    (boot / "config.txt").write_text(CONFIG)
    (boot / "loader/loader.conf").write_text(LOADER)
    (boot / "loader/entries/A.conf").write_text(ENTRY)
    partitions = {number: folder / f"p{number}" for number in (2, 3)}
    for device in partitions.values():
        device.write_bytes(b"\xff" * room)
    return Card(boot, partitions, Slot("A"), "0011aabb")
