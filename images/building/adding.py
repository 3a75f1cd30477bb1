"""One more model for a finished image: its data partition is made anew, all else stays.

image ──▶ card ──┐
lists of it ─────┼──▶ card with both ──▶ what is handed on
model ───────────┘
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge.bundle import Bundle
from edge.manifest import MANIFEST, Manifest, Parent, least_known
from edge.store import Model
from edge.workshop import software, workshop
from images.boards import boards
from images.building import debian
from images.building.build import Bench, checked, imager_manifest, tags
from images.building.papers import CDX, SPDX, Told, papers_again
from images.building.room import remove
from images.building.space import require_space
from images.errors import ImageError
from images.publishing.catalog import catalog, write_catalog
from images.publishing.imager import OS_LIST, OsList
from images.unpacking import unpack

__all__ = ["Addition", "add_model", "beside"]

_LARGEST = 64 << 20
"""Bytes of a list that are read."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What is asked for."""

    image: Path
    """Of a bundle, packed or not."""
    model: Model
    """That comes to it."""
    default: bool
    """Whether the card starts with it from now on."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What the bundle says that the image is of."""

    manifest: Manifest
    sha256: str
    told: Told


def beside(image: Path, model: Model) -> Path:
    """Where the new bundle is made unless something else is asked for."""
    folder = image.resolve().parent
    return folder.with_name(f"{folder.name}-{model.name}"[:96])


def add_model(order: Addition, out: Path, log: Path, say: Callable[[str], object]) -> Bundle:
    """Make the image bundle `out` of an image and a model, and beside it what starts Imager.

    Args:
        log: where the work is told.
        say: called with a word for each part of the work, as it begins.

    Raises:
        LucieError: the image is none of ours, or damaged; the model is damaged, is on it already,
            or has no room on the board; the disk is full; a step failed.
    """
    before = _before(order.image)
    model = checked(order.model, boards()[str(before.manifest.recipe["board"])])
    name = model.manifest.name
    if name in {parent.name for parent in before.manifest.parents}:
        raise ImageError("add.there", name=name, path=str(order.image))
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with workshop(out) as folder:
        _require_room(folder, before, model)
        say("tools")
        bench = Bench(debian.tools(log), folder, log, say)
        card = _card(bench, order, before, model)
        say("papers")
        _papers(card, order, before, model)
        say("hash")
        files = {file.name: file for file in sorted(card.iterdir()) if file.suffix != ".img"}
        made = Bundle.write(out, _manifest(order, before, model, out.name), files, move=True)
    write_catalog(catalog([made]), imager_manifest(out))
    return made


def _before(image: Path) -> _Before:
    """What lies beside an image: its manifest, and the lists that it names."""
    folder = image.resolve().parent
    try:
        raw = _read(folder / MANIFEST)
        manifest = Manifest.model_validate_json(raw)
        lists = {
            ending: _listed(folder, manifest, ending).decode() for ending in (CDX, SPDX, OS_LIST)
        }
        [entry] = OsList.model_validate_json(lists[OS_LIST]).os_list
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageError("add.no-image", path=str(image), reason=reason) from error
    except (ValidationError, ValueError) as error:
        fault = str(error).splitlines()[0]
        raise ImageError("add.no-image", path=str(image), reason=fault) from error
    if manifest.kind != "image" or manifest.recipe.get("board") not in boards():
        raise ImageError("add.no-image", path=str(image), reason=MANIFEST)
    told = Told(lists[CDX], lists[SPDX], entry)
    return _Before(manifest, hashlib.sha256(raw).hexdigest(), told)


def _listed(folder: Path, manifest: Manifest, ending: str) -> bytes:
    """The file of a bundle whose name ends so, as its manifest says that it is."""
    [name] = [name for name in manifest.files if name.endswith(ending)]
    content = _read(folder / name)
    if hashlib.sha256(content).hexdigest() != manifest.files[name].sha256:
        raise ValueError(name)
    return content


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_LARGEST)


def _require_room(folder: Path, before: _Before, model: Bundle) -> None:
    """Room for the card and what is unpacked of it, packed twice, with the model."""
    size = sum(file.size for file in model.manifest.files.values())
    require_space(folder.parent, 3 * (before.told.entry.extract_size + size))


def _card(bench: Bench, order: Addition, before: _Before, model: Bundle) -> Path:
    """The folder of what is handed on."""
    given, card = bench.folder / "given", bench.folder / "card"
    name = model.manifest.name
    place = f"data/lucie/data/models/{name}"
    (given / place).mkdir(parents=True)
    if order.default:
        (given / "data/server").mkdir()
        (given / "data/server/model").write_text(f"LUCIE_MODEL={name}\n", encoding="utf-8")
    card.mkdir()
    bench.say("unpack-image")
    unpack(order.image, card / "lucie.img")
    with (card / "lucie.img").open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != before.told.entry.extract_sha256:
            raise ImageError("add.other-image", path=str(order.image))
    binds = {"/given": given, f"/given/{place}": model.path, "/out": card}
    work = bench.folder / "work"  # beside the card: it is that disk which has the room for it
    work.mkdir()
    try:
        bench.run("add", "/out/lucie.img", "/given", "/work", binds={**binds, "/work": work})
    finally:
        remove(work)  # it holds files of those whom the card knows
    board = before.manifest.recipe["board"]
    stem = f"lucie-{board}-{name}" if order.default else _stem(before)
    bench.run("publish", "/out", stem, binds=binds)
    return card


def _stem(before: _Before) -> str:
    return next(n for n in before.manifest.files if n.endswith(CDX)).removesuffix(CDX)


def _papers(card: Path, order: Addition, before: _Before, model: Bundle) -> None:
    language = str(before.manifest.recipe.get("language", "fr"))
    boards_of_it = tags(order.model) if order.default else None
    try:
        papers_again(card, before.told, model, boards_of_it, language)
    except ValueError as error:
        raise ImageError("add.no-image", path=str(order.image), reason=str(error)) from error


def _manifest(order: Addition, before: _Before, model: Bundle, name: str) -> Manifest:
    was, come = before.manifest, model.manifest
    return Manifest(
        kind="image",
        name=name,
        parents=(*was.parents, Parent(name=come.name, sha256=model.sha256)),
        recipe={
            "step": "image.add-model",
            "board": was.recipe["board"],
            "language": was.recipe.get("language", "fr"),
            "image": {"name": was.name, "sha256": before.sha256},
            "default": order.default,
        },
        software=was.software | software(),
        languages=tuple(dict.fromkeys((*was.languages, *come.languages))),
        provenance=least_known((was.provenance, come.provenance)),
        data=tuple(dict.fromkeys((*was.data, *come.data))),
    )
