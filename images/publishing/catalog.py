"""One list for Raspberry Pi Imager, of the images of several bundles."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from edge.bundle import Bundle
from images.errors import ImageError, ImageUsageError
from images.publishing.imager import OS_LIST, Entry, OsList, os_list

__all__ = ["catalog", "write_catalog"]

_LARGEST = 1 << 16


def catalog(bundles: Sequence[Bundle], base: str | None = None) -> OsList:
    """The list of the images in these bundles, in their order.

    Args:
        bundles: checked ones.
        base: address of the folder that theirs will be in; None: where they are now.

    Raises:
        ImageError: one holds no image, or says of it what is not so.
        ImageUsageError: two have one name, and so would have one address.
    """
    names = [bundle.path.resolve().name for bundle in bundles]
    twice = next((name for name in names if names.count(name) > 1), None)
    if base is not None and twice is not None:
        raise ImageUsageError("catalog.twice", name=twice)
    return os_list([_placed(bundle, base) for bundle in bundles])


def write_catalog(listed: OsList, path: Path) -> None:
    """Write the list, in the place of an earlier one.

    Raises:
        ImageError: it cannot be written.
    """
    place = path.absolute()  # "." alone has no name
    draft = place.parent / f".{place.name}-{secrets.token_hex(4)}"
    try:
        draft.write_text(listed.text(), encoding="utf-8")
        draft.replace(place)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        reason = error.strerror or type(error).__name__
        raise ImageError("catalog.unwritable", path=str(path), reason=reason) from error


def _placed(bundle: Bundle, base: str | None) -> Entry:
    """The image of a bundle, with whole addresses."""
    entry, folder = _entry(bundle), bundle.path.resolve()
    there = f"{base.rstrip('/')}/{quote(folder.name)}" if base else folder.as_uri()
    files = {"icon": entry.icon, "url": entry.url, "bmap_url": entry.bmap_url}
    return entry.model_copy(
        update={field: f"{there}/{quote(file)}" for field, file in files.items()}
    )


def _entry(bundle: Bundle) -> Entry:
    """What a bundle says of its image, which is so."""
    lists = [name for name in bundle.manifest.files if name.endswith(OS_LIST)]
    if bundle.manifest.kind != "image" or len(lists) != 1:
        raise ImageError("catalog.no-image", path=str(bundle.path))
    with (bundle.path / lists[0]).open("rb") as file:
        raw = file.read(_LARGEST)
    try:
        [entry] = OsList.model_validate_json(raw).os_list
    except ValueError as error:
        raise ImageError("catalog.untrue", path=str(bundle.path), file=lists[0]) from error
    files = bundle.manifest.files
    image = files.get(entry.url)
    if (
        image is None
        or image.size != entry.image_download_size
        or image.sha256 != entry.image_download_sha256
        or not {entry.icon, entry.bmap_url} <= files.keys()
    ):
        raise ImageError("catalog.untrue", path=str(bundle.path), file=lists[0])
    return entry
