"""What goes with an image: what it is made of, and how Raspberry Pi Imager offers it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from images.publishing.inventory import inventory, of_model, system
from images.publishing.merging import merged_cdx, merged_spdx
from images.publishing.spdx import spdx_document
from images.words import FOLDER

__all__ = ["CDX", "SPDX", "Told", "papers", "papers_again"]

CDX, SPDX = ".cdx.json", ".spdx.json"
"""How the names of the lists of components end."""
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
    sha256 = _sha256(image)
    made_of = inventory(image.stem, sha256, debian, site, model)
    lists = {
        CDX: cyclonedx_document(made_of, int(EPOCH)),
        SPDX: spdx_document(made_of, int(EPOCH)),
    }
    _write(folder, lists, _entry(image, sha256, _title(model), tags, language))


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of an image."""

    cdx: str
    spdx: str
    entry: Entry


def papers_again(
    folder: Path, before: Told, model: Bundle, tags: Sequence[str] | None, language: str
) -> None:
    """Write them for an image that a model has come to.

    Args:
        before: what was told of it.
        model: that has come.
        tags: of the boards that have room for it; None: the card starts with another model, and
            is called by that one.
        language: of the chat on the card.

    Raises:
        ValueError: what was told is in no such format.
    """
    [image] = folder.glob("*.img")
    sha256, come = _sha256(image), of_model(model)
    # Two models may have files of one name.
    files = tuple(replace(file, name=f"{come.name}/{file.name}") for file in come.parts)
    more = system(image.stem, sha256, (replace(come, parts=files),))
    lists = {
        CDX: merged_cdx(before.cdx, cyclonedx_document(more, int(EPOCH))),
        SPDX: merged_spdx(before.spdx, spdx_document(more, int(EPOCH))),
    }
    entry = _entry(image, sha256, _title(model), tags or before.entry.devices, language)
    if tags is None:
        told = {"name": before.entry.name, "description": before.entry.description}
        entry = entry.model_copy(update=told)
    _write(folder, lists, entry)


def _write(folder: Path, lists: Mapping[str, str], entry: Entry) -> None:
    shutil.copyfile(_ICON, folder / _ICON.name)
    [image] = folder.glob("*.img")
    for ending, content in {**lists, OS_LIST: os_list([entry]).text()}.items():
        (folder / f"{image.stem}{ending}").write_text(content, encoding="utf-8")
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
