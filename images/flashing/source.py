"""An image as it is written: unpacked and checked while it is read."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from images.errors import ImageError, ImageUsageError
from images.flashing.block_map import BlockMap, Range, read_block_map

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BLOCK", "SUMS", "Image", "open_image"]

BLOCK = 4 << 20
"""Bytes that are read and written at a time: cards are fastest at their erase blocks' size."""
SUMS = "SHA256SUMS"
"""Hashes of the files beside it, as `sha256sum` writes and checks them."""
_PACKED = (".xz", ".zst", ".gz")


@dataclass(frozen=True, slots=True)
class Image:
    """An image file, and what lies beside it about it."""

    path: Path
    block_map: BlockMap | None
    sha256: str | None
    """Of the file as it lies there."""

    @property
    def size(self) -> int | None:
        """Bytes of a card that it needs; None, where it is packed without a block map."""
        if self.block_map:
            return self.block_map.image_size
        return None if self.path.suffix in _PACKED else self.path.stat().st_size

    def blocks(self, progress: Callable[[int, int], object]) -> Iterator[tuple[int, bytes]]:
        """What is to be written, in order: offset, at most `BLOCK` bytes.

        It is checked on the way; what was yielded before an error may be wrong.

        Args:
            progress: told bytes of the file that are read, and all of them.

        Raises:
            ImageError: the image is cut short, or other than its hashes say.
        """
        total = self.path.stat().st_size
        try:
            with self.path.open("rb", buffering=0) as file:
                counted = _Counted(file)
                buffered = BufferedReader(counted, BLOCK)
                for block in self._blocks(_unpacked(buffered, self.path.suffix)):
                    progress(counted.done, total)
                    yield block
                while buffered.read(BLOCK):  # what is after the packed data
                    pass
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
            raise ImageError("flash.damaged", path=str(self.path), reason=str(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise ImageError("flash.unreadable", path=str(self.path), reason=reason) from error
        if self.sha256 not in (None, counted.sha256):
            raise ImageError("flash.other-hash", path=str(self.path), sums=SUMS)

    def _blocks(self, content: _Readable) -> Iterator[tuple[int, bytes]]:
        if self.block_map is None:
            offset = 0
            while block := content.read(BLOCK):
                yield offset, block
                offset += len(block)
            return
        at = 0
        for each in self.block_map.ranges:
            _skip(content, each.start - at)
            yield from _range(content, each)
            at = each.end
        while content.read(BLOCK):  # its end has checksums
            pass


def open_image(path: Path, block_map: Path | None = None) -> Image:
    """An image that can be written; nothing of it is read yet.

    Args:
        path: a file that ends with .img, .img.xz, .img.zst or .img.gz. A file SHA256SUMS in its
            folder is heeded.
        block_map: its block map; where none is named, the one beside it, NAME.img.bmap.

    Raises:
        ImageError: a file is missing or damaged.
        ImageUsageError: it is something else.
    """
    plain = path.with_suffix("") if path.suffix in _PACKED else path
    if plain.suffix not in (".img", ".raw", ".wic"):
        raise ImageUsageError("flash.no-image", path=str(path))
    if not path.is_file():
        raise ImageError("flash.no-file", path=str(path))
    beside = (plain.with_name(f"{plain.name}.bmap"), plain.with_suffix(".bmap"))
    found = block_map or next((file for file in beside if file.is_file()), None)
    return Image(path, read_block_map(found) if found else None, _sum(path))


def _sum(path: Path) -> str | None:
    """Its hash in the list beside it."""
    try:
        lines = (path.parent / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError("flash.unreadable", path=str(path.parent / SUMS), reason=str(error)) \
            from error  # fmt: skip
    for line in lines:
        hashed, _, name = line.partition(" ")
        if name.lstrip(" *") == path.name:
            return hashed.lower()
    return None


def _range(content: _Readable, each: Range) -> Iterator[tuple[int, bytes]]:
    hashed, at = hashlib.sha256(), each.start
    while at < each.end:
        block = content.read(min(BLOCK, each.end - at))
        if not block:
            raise EOFError(f"{at} < {each.end}")
        hashed.update(block)
        yield at, block
        at += len(block)
    if each.sha256 and hashed.hexdigest() != each.sha256.lower():
        raise EOFError(f"sha256, {each.start}-{each.end}")


def _skip(content: _Readable, size: int) -> None:
    while size > 0:
        passed = len(content.read(min(BLOCK, size)))
        if not passed:
            raise EOFError
        size -= passed


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted(RawIOBase):
    """A file whose bytes are counted and hashed as they are read."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._hashed = hashlib.sha256()
        self.done = 0

    @property
    def sha256(self) -> str:
        """Of what was read."""
        return self._hashed.hexdigest()

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read what there is."""
        view = memoryview(buffer).cast("B")
        read = self._file.readinto(view) or 0
        self.done += read
        self._hashed.update(view[:read])
        return read


def _unpacked(file: BufferedReader[_Counted], suffix: str) -> _Readable:
    """The image in a file, as a stream."""
    if suffix == ".xz":
        return lzma.open(file)
    if suffix == ".gz":
        return gzip.open(file)
    if suffix == ".zst":
        return zstd.open(file)
    return file
