"""An image, packed or not, as a file that is as long as the card it is for."""

from __future__ import annotations

from pathlib import Path

from images.flashing.source import open_image

__all__ = ["unpack"]


def unpack(image: Path, card: Path) -> int:
    """Write what is in `image` to the file `card`, with holes where there is nothing.

    Returns:
        Its bytes.

    Raises:
        ImageError: the image is damaged, or none.
    """
    source = open_image(image, None)
    size = source.size or 0
    with card.open("wb") as file:
        for offset, block in source.blocks(lambda *_: None):
            file.seek(offset)
            file.write(block)
            size = max(size, offset + len(block))
        file.truncate(size)
    return size
