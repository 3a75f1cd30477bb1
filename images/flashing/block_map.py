"""Block maps: which parts of an image hold something, and their hashes.

The format is bmaptool's, version 2.0 (github.com/yoctoproject/bmaptool): an XML file that stands
beside the image. What it does not name need not be written.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from images.errors import ImageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["BlockMap", "Range", "read_block_map"]

_LARGEST = 16 << 20
_OWN_HASH = re.compile(rb"(<BmapFileChecksum>\s*)([0-9a-f]{64})(\s*</BmapFileChecksum>)")


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of an image that hold something."""

    start: int
    end: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BlockMap:
    """What is to be written of an image."""

    image_size: int
    ranges: tuple[Range, ...]
    """In order, without overlap."""

    @property
    def mapped(self) -> int:
        """Bytes that are to be written."""
        return sum(each.end - each.start for each in self.ranges)


def read_block_map(path: Path) -> BlockMap:
    """Read a block map.

    Raises:
        ImageError: it is damaged, or of another version.
    """
    from defusedxml.ElementTree import ParseError

    try:
        with path.open("rb") as file:
            return _parsed(file.read(_LARGEST + 1))
    except (OSError, ValueError, ParseError) as error:  # defusedxml's own errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError("flash.bad-map", path=str(path), reason=reason) from error


def _parsed(content: bytes) -> BlockMap:
    from defusedxml.ElementTree import fromstring

    if len(content) > _LARGEST:
        raise ValueError(f"> {_LARGEST} bytes")
    root = fromstring(content)
    if root.get("version", "").split(".")[0] != "2":
        raise ValueError(f"version {root.get('version')}")
    _check_own_hash(content)
    return _block_map(root)


def _check_own_hash(content: bytes) -> None:
    """The map's hash was taken of itself, with zeros in the place of the hash."""
    found = _OWN_HASH.search(content)
    if found is None:
        raise ValueError("BmapFileChecksum")
    plain = _OWN_HASH.sub(rb"\g<1>" + b"0" * 64 + rb"\g<3>", content, count=1)
    if hashlib.sha256(plain).hexdigest().encode() != found[2]:
        raise ValueError("BmapFileChecksum")


def _block_map(root: Element) -> BlockMap:
    if _said(root, "ChecksumType") != "sha256":
        raise ValueError("ChecksumType")
    size, block = int(_said(root, "ImageSize")), int(_said(root, "BlockSize"))
    ranges: list[Range] = []
    for element in root.findall("./BlockMap/Range"):
        first, _, last = (element.text or "").strip().partition("-")
        start, end = int(first) * block, min((int(last or first) + 1) * block, size)
        if not (ranges[-1].end if ranges else 0) <= start < end:
            raise ValueError(f"Range {element.text}")
        ranges.append(Range(start, end, element.get("chksum", "")))
    if block <= 0 or not ranges:
        raise ValueError("BlockMap")
    return BlockMap(size, tuple(ranges))


def _said(root: Element, name: str) -> str:
    text = root.findtext(name)
    if text is None:
        raise ValueError(name)
    return text.strip()
