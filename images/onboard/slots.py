"""The two places of a card for systems: the one that runs, and the one that an update fills.

A system is a partition and a folder of the boot partition. Which one starts is one letter in one
or two files there, which is overwritten in its place: a cut leaves the one or the other. A new
system is on trial: `trial` counts how often it may still be started (`board/init`), and names the
one to go back to.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge.durable import sync_folder
from images.errors import ImageError
from images.onboard.boot_partition import BOOT

__all__ = ["Card", "Slot", "Trial", "without_a_cards_own"]

_TRIES = 3
"""One start may be ended by a pulled plug, which is no fault of the system's."""
_NUMBERS = {"A": 2, "B": 3}
_CHOICES = {"config.txt": rb"^os_prefix=([AB])/", "loader/loader.conf": rb"^default +([AB])\.conf"}
"""For the firmware of a Raspberry Pi, and for UEFI's."""
_ON_TRIAL = "lucie.trial"
"""Word of the kernel's line: init looks for `trial`."""
_OF_A_CARD = ("lucie.disk=", "lucie.root=", _ON_TRIAL)
"""Words that no update brings along."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of them."""

    letter: str

    @property
    def number(self) -> int:
        """Of its partition."""
        return _NUMBERS[self.letter]

    @property
    def other(self) -> Slot:
        """The other one."""
        return Slot("B" if self.letter == "A" else "A")


@dataclass(frozen=True, slots=True)
class Trial:
    """What `trial` says."""

    tries: int
    """How often the new system may still be started."""
    before: Slot
    """The one to go back to."""

    @property
    def begun(self) -> bool:
        """Whether it was made what starts next: a cut before that leaves one try more."""
        return self.tries <= _TRIES


@dataclass(frozen=True, slots=True)
class Card:
    """The card that a system runs from."""

    boot: Path
    """Where its boot partition is mounted."""
    partitions: Mapping[int, Path]
    """Their devices."""
    running: Slot
    signature: str
    """Of its partition table, as init looks for it."""

    @classmethod
    def here(cls, root: Path = Path("/")) -> Self:
        """The card that this board runs from."""
        words = (root / "proc/cmdline").read_text(encoding="utf-8").split()
        told = dict(word.split("=", 1) for word in words if "=" in word)
        mounts = (root / "proc/self/mounts").read_text(encoding="utf-8")
        data = next(line.split()[0] for line in mounts.splitlines() if " /data " in line)
        disk = (root / "sys/class/block" / Path(data).name).resolve().parent
        partitions = {
            int((found / "partition").read_text()): root / "dev" / found.name
            for found in disk.iterdir()
            if (found / "partition").is_file()
        }
        letter = next(k for k, number in _NUMBERS.items() if str(number) == told["lucie.root"])
        return cls(root / BOOT.relative_to("/"), partitions, Slot(letter), told["lucie.disk"])

    @property
    def trial(self) -> Trial | None:
        """What `trial` says; None: there is none."""
        try:
            found = re.match(r"(\d) ([AB])\b", (self.boot / "trial").read_text(encoding="ascii"))
        except (OSError, UnicodeError):
            return None
        return Trial(int(found[1]), Slot(found[2])) if found else None

    def lay_boot_files(self, slot: Slot, files: Path, words: str) -> None:
        """Fill the folder of a slot, which does not run; the boot partition is writable.

        Args:
            slot: not the one that runs.
            files: a folder with what its firmware starts; gets the words of this card.
            words: for its kernel, of whatever card.
        """
        folder = self.boot / slot.letter
        own = f"lucie.disk={self.signature} lucie.root={slot.number} {_ON_TRIAL}"
        line = f"{without_a_cards_own(words)} {own}\n"
        (files / "cmdline.txt").write_text(line, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        # Not by copytree, which makes of all errors one that has no number.
        for source in (files, *sorted(files.rglob("*"))):
            target = folder / source.relative_to(files)
            if source.is_dir():
                target.mkdir()
            else:
                _copy(source, target)
        for made in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            sync_folder(made)
        self._lay_entry(slot)

    def _lay_entry(self, slot: Slot) -> None:
        """For UEFI: the entry of the system that runs, with the folder and the words of this."""
        entries, own = self.boot / "loader/entries", self.running.letter
        with suppress(FileNotFoundError):
            text = (entries / f"{own}.conf").read_text(encoding="utf-8")
            line = (self.boot / slot.letter / "cmdline.txt").read_text(encoding="utf-8")
            # Its firmware tells of the screen and the serial port, as in `steps/disk.sh`.
            words = " ".join(word for word in line.split() if not word.startswith("console="))
            text = text.replace(f"/{own}/", f"/{slot.letter}/")
            options = re.compile(r"^(options +).*$", re.MULTILINE)
            text = options.sub(lambda found: found[1] + words, text)
            _create(entries / f"{slot.letter}.conf", text)

    def begin_trial(self, slot: Slot) -> None:
        """The next start is that of `slot`, which has to prove itself.

        Raises:
            ImageError: nothing on the boot partition says which slot starts.
        """
        # One more says that the letter has not been written.
        _create(self.boot / "trial", f"{_TRIES + 1} {slot.other.letter}\n")
        if not self._point_to(slot):
            self.withdraw()
            raise ImageError("update.no-choice", file="config.txt")
        _overwrite(self.boot / "trial", rb"^(\d)", str(_TRIES).encode())

    def withdraw(self) -> None:
        """What runs is what starts next, and no other is on trial."""
        self._point_to(self.running)
        (self.boot / "trial").unlink(missing_ok=True)
        sync_folder(self.boot)

    def _point_to(self, slot: Slot) -> bool:
        letter = slot.letter.encode()
        found = [_overwrite(self.boot / name, of, letter) for name, of in _CHOICES.items()]
        return any(found)

    def end_trial(self) -> None:
        """What runs is what starts from now on."""
        word, nothing = _ON_TRIAL.encode(), b" " * len(_ON_TRIAL)
        letter = self.running.letter
        for name in (f"{letter}/cmdline.txt", f"loader/entries/{letter}.conf"):
            _overwrite(self.boot / name, rb"(" + re.escape(word) + rb")", nothing)
        (self.boot / "trial").unlink(missing_ok=True)
        sync_folder(self.boot)


def without_a_cards_own(words: str) -> str:
    """The kernel's words without those that say where a card has its system."""
    return " ".join(word for word in words.split() if not word.startswith(_OF_A_CARD))


def _overwrite(file: Path, pattern: bytes, by: bytes) -> bool:
    """Write over what the pattern's group is, in its place and at once; whether it is there."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        found = re.search(pattern, os.pread(descriptor, 1 << 16, 0), re.MULTILINE)
        if found is not None:
            os.pwrite(descriptor, by, found.start(1))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return found is not None


def _create(file: Path, text: str) -> None:
    """Write a file that nothing reads yet. None is renamed: FAT tells late where one lies then."""
    file.unlink(missing_ok=True)
    with file.open("x", encoding="utf-8") as writer:
        writer.write(text)
        writer.flush()
        os.fsync(writer.fileno())
    sync_folder(file.parent)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())
