"""The machines that QEMU has for us, and how a card is started in them.

There is no Raspberry Pi 4 that starts Linux, and no 5: `virt` with their processor stands for them.
QEMU starts Linux itself in their firmware's place. Of `virt-uefi` the firmware is there, and finds
on the card what it starts. None has a network device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.building.debian import tools
from images.building.room import Room
from images.unpacking import unpack

__all__ = ["MACHINES", "Machine", "Started", "start"]

_CARD = "card.img"


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine."""

    name: str
    """As QEMU knows it."""
    words: tuple[str, ...]
    """For Linux: first of all which serial port it has."""
    arguments: tuple[str, ...]
    """For QEMU."""
    drive: str
    """How it holds the card."""
    firmware: str | None = None
    """In the room of `tools`; None: QEMU starts Linux."""


def _virt(cpu: str) -> Machine:
    name = f"virt-{cpu.removeprefix('cortex-')}"
    return Machine(name, ("console=ttyAMA0",), _virt_arguments(cpu), "virtio")


def _virt_arguments(cpu: str) -> tuple[str, ...]:
    return ("-M", "virt", "-cpu", cpu, "-smp", "2", "-m", "1G")


MACHINES: Mapping[str, Machine] = {
    machine.name: machine
    for machine in (
        # Its watchdog resets it as soon as it is set.
        Machine("raspi3b", ("console=ttyS1,115200", "systemd.watchdog_sec=0"),
                ("-M", "raspi3b", "-dtb", "bcm2837-rpi-3-b.dtb", "-serial", "null"), "sd"),
        *map(_virt, ("cortex-a53", "cortex-a72", "cortex-a76")),
        # A source of randomness, as boards have one: without, Linux waits for some, or for ever.
        Machine("virt-uefi", (), (*_virt_arguments("cortex-a72"), "-device", "virtio-rng-pci"),
                "virtio", firmware="/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
    )
}  # fmt: skip
"""By name."""


@dataclass(frozen=True, slots=True)
class Started:
    """A card that lies in a machine."""

    room: Room
    folder: Path
    machine: Machine

    def command(self) -> list[str]:
        """The program that is the machine; its console is stdin and stdout."""
        firmware = self.machine.firmware
        program = [
            *("qemu-system-aarch64", *self.machine.arguments),
            *("-display", "none", "-nic", "none", "-no-reboot", "-serial", "mon:stdio"),
            *(self._linux() if firmware is None else ("-bios", firmware)),
            *("-drive", f"if={self.machine.drive},file={_CARD},format=raw"),
        ]
        inside = ["sh", "-c", 'cd /card && exec "$@"', "sh", *program]
        return self.room.command(inside, {"/card": self.folder})

    def _linux(self) -> list[str]:
        line = (self.folder / "cmdline.txt").read_text(encoding="utf-8").split()
        line = [*self.machine.words, *(word for word in line if "console=" not in word)]
        return ["-kernel", "vmlinuz", "-initrd", "initrd", "-append", " ".join(line)]


def start(image: Path, machine: Machine, folder: Path, log: Path) -> Started:
    """Put a copy of an image into a machine; what happens there does not change the image.

    Args:
        folder: where the copy is made.
        log: where the work is told.

    Raises:
        ImageError: it is damaged.
        BuildError: it is no card of ours.
    """
    card = folder / _CARD
    size = unpack(image, card)
    # A card is larger than the image, and QEMU's are powers of two.
    os.truncate(card, 1 << (size - 1).bit_length())
    room = tools(log)
    if machine.firmware is None:
        room.run("firmware", f"/card/{_CARD}", "/card", binds={"/card": folder}, log=log)
    return Started(room, folder, machine)
