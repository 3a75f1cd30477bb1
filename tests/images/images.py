"""An image, and the block map that bmaptool 3.6 made of it (`bmaptool create`): `g.img.bmap`."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.flashing.source import zstd

PATTERN = bytes(range(256)) * 4096
SIZE = (5 << 20) + 100
PACKED = (".img", ".img.xz", ".img.zst", ".img.gz")
_OPEN = {".xz": lzma.open, ".zst": zstd.open, ".gz": gzip.open}


def content() -> bytes:
    whole = bytearray(SIZE)
    whole[: 1 << 20] = PATTERN
    whole[3 << 20 : (3 << 20) + 8195] = PATTERN[:8192] + b"end"
    return bytes(whole)


def write_image(folder: Path, ending: str, *, mapped: bool = False) -> Path:
    path = folder / f"g{ending}"
    pack = _OPEN.get(path.suffix)
    if pack:
        with pack(path, "wb") as file:
            file.write(content())
    else:
        path.write_bytes(content())
    if mapped:
        shutil.copy(Path(__file__).with_name("g.img.bmap"), folder)
    return path


def write_sums(image: Path) -> None:
    line = f"{hashlib.sha256(image.read_bytes()).hexdigest()} *{image.name}\n"
    (image.parent / "SHA256SUMS").write_text(line, encoding="utf-8")


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    command = ["losetup", "--find", "--show", str(file)]
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no losetup here")
    if made.returncode:
        pytest.skip(f"this machine lets us make no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
