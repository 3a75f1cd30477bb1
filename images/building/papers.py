"""What goes with an image: what it is made of, and how Raspberry Pi Imager offers it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge.bundle import Bundle
from edge.catalog import entry_of_hash
from edge.messages import text
from images.building.room import EPOCH
from images.flashing.source import SUMS
from images.publishing.cdx import cyclonedx_document
from images.publishing.component import Component
from images.publishing.imager import OS_LIST, Entry, os_list
from images.publishing.inventory import inventory
from images.publishing.spdx import spdx_document
from images.words import FOLDER

__all__ = ["papers"]

_ICON = Path(__file__).parents[1] / "publishing" / "icon.svg"


def papers(
    folder: Path,
    debian: Sequence[Component],
    site: Path,
    model: Bundle,
    tags: Sequence[str],
    language: str,
) -> None:
    """Write them beside the image in `folder`, and at last the hashes of all that is handed on.

    NAME.cdx.json, NAME.spdx.json, NAME.os_list.json, icon.svg, SHA256SUMS

    Args:
        debian: packages of which something is on the card.
        site: what the board has of Python.
        model: on the card.
        tags: of the boards that it is for, by which Imager knows them.
        language: of the chat on the card.
    """
    [image] = folder.glob("*.img")
    name, sha256 = image.stem, _sha256(image)
    made_of = inventory(name, sha256, debian, site, model)
    shutil.copyfile(_ICON, folder / _ICON.name)
    entry = _entry(image, sha256, _title(model), tags, language)
    told = {
        ".cdx.json": cyclonedx_document(made_of, int(EPOCH)),
        ".spdx.json": spdx_document(made_of, int(EPOCH)),
        OS_LIST: os_list([entry]).text(),
    }
    for ending, content in told.items():
        (folder / f"{name}{ending}").write_text(content, encoding="utf-8")
    handed_on = sorted(file for file in folder.iterdir() if file.suffix != ".img")
    sums = "".join(f"{_sha256(file)}  {file.name}\n" for file in handed_on)
    (folder / SUMS).write_text(sums, encoding="utf-8")


def _entry(image: Path, sha256: str, model: str, tags: Sequence[str], language: str) -> Entry:
    """For the packed image beside `image`, which has that hash."""
    packed = image.with_name(f"{image.name}.xz")

    def say(what: str) -> str:
        return text(f"imager.{what}", lang=language, folder=FOLDER, model=model)

    return Entry(
        name=say("name"),
        description=say("description"),
        icon=_ICON.name,
        url=packed.name,
        bmap_url=f"{image.name}.bmap",
        extract_size=image.stat().st_size,
        extract_sha256=sha256,
        image_download_size=packed.stat().st_size,
        image_download_sha256=_sha256(packed),
        release_date=datetime.fromtimestamp(int(EPOCH), UTC).date().isoformat(),
        devices=tuple(tags),
    )


def _title(model: Bundle) -> str:
    """As people write it, where it is one that we know."""
    known = (entry_of_hash(file.sha256) for file in model.manifest.files.values())
    return next((entry.title for entry in known if entry), model.manifest.name)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
