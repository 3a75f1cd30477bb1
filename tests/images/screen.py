"""What a machine's screen shows, and keys that are pressed at it.

Linux draws letters of one size from a font in the format of `psf(5)` (kbd, doc/font-formats): what
it has drawn is read back, cell by cell, by the same font.
"""

from __future__ import annotations

import gzip
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pexpect

_MAGIC = 0x864AB572
_END, _SEQUENCE = b"\xff", b"\xfe"
_MONITOR = "(qemu) "
_EVERY_S = 5.0


@dataclass(frozen=True)
class Font:
    height: int
    width: int
    letters: Mapping[bytes, str]
    """By their rows of pixels, as the file has them."""

    def read(self, picture: Path) -> str:
        """The lines of a screen; what is no letter of the font is a `?`."""
        pixels = _pixels(picture)
        rows, columns = pixels.shape[0] // self.height, pixels.shape[1] // self.width
        lines = ("".join(self._line(pixels, row, columns)).rstrip() for row in range(rows))
        return "\n".join(lines)

    def _line(self, pixels: np.ndarray, row: int, columns: int) -> Iterator[str]:
        band = pixels[row * self.height : (row + 1) * self.height]
        for column in range(columns):
            cell = band[:, column * self.width : (column + 1) * self.width]
            drawn = (cell != cell[0, 0]).any(axis=2)
            yield self.letters.get(np.packbits(drawn, axis=1).tobytes(), "?")


def _pixels(picture: Path) -> np.ndarray:
    """The colours of a PPM file: rows × columns × 3."""
    _, width, height, rest = picture.read_bytes().split(None, 3)
    colours = np.frombuffer(rest.removeprefix(b"255\n"), np.uint8)
    return colours.reshape(int(height), int(width), 3)


def read_font(file: Path) -> Font:
    """Read a packed one of version 2."""
    data = gzip.decompress(file.read_bytes())
    magic, _, header, _, count, size, height, width = struct.unpack("<8I", data[:32])
    assert magic == _MAGIC
    names = data[header + count * size :].split(_END)
    letters: dict[bytes, str] = {}
    for number in range(count):
        glyph = data[header + number * size : header + (number + 1) * size]
        name = names[number].split(_SEQUENCE)[0].decode()
        letters.setdefault(glyph, name[:1] or "?")
    return Font(height, width, letters)


class Screen:
    """A machine that runs, seen by its screen and heard by its keyboard alone.

    Args:
        command: the machine, whose monitor is its stdin and stdout.
        folder: where its pictures are put.
        seen_there: that folder, as the machine names it.
    """

    def __init__(self, command: Sequence[str], folder: Path, seen_there: str, font: Font) -> None:
        self._child = pexpect.spawn(command[0], list(command[1:]), encoding="utf-8", timeout=60)
        self._child.expect_exact(_MONITOR)
        self._folder, self._there, self._font = folder, seen_there, font

    def _tell(self, order: str) -> None:
        self._child.sendline(order)
        self._child.expect_exact(_MONITOR)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, by the names of an English keyboard (`sendkey`)."""
        for key in keys:
            self._tell(f"sendkey {key}")
            time.sleep(0.5)

    def shown(self) -> str:
        """Its lines."""
        self._tell(f"screendump {self._there}/screen.ppm")
        return self._font.read(self._folder / "screen.ppm")

    def until(self, seen: Callable[[str], bool], patience_s: float) -> str:
        """Wait until it shows something; its lines then."""
        end = time.monotonic() + patience_s
        while True:
            time.sleep(_EVERY_S)
            try:
                shown = self.shown()
            except ValueError:  # it changes its size
                shown = ""
            if seen(shown):
                return shown
            assert time.monotonic() < end, shown

    def close(self) -> None:
        """Pull the plug."""
        self._child.close(force=True)


@contextmanager
def on(command: Sequence[str], folder: Path, seen_there: str, font: Font) -> Iterator[Screen]:
    """A machine, for as long as it is looked at."""
    screen = Screen(command, folder, seen_there, font)
    try:
        yield screen
    finally:
        screen.close()
