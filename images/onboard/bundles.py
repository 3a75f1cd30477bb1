"""The models on a stick: found within bounds, checked byte for byte, and judged.

All that is on a stick is hostile. It is mounted without links, devices and programs; here its
folders may be endless, its manifests huge, and what they say untrue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edge.bundle import Bundle
from edge.catalog import entry_of_hash
from edge.device import Device, detect
from edge.errors import LucieError
from edge.header import read_model
from edge.manifest import MANIFEST
from edge.plan import plan
from edge.quantity import size_text
from images.boards import SYSTEM
from images.onboard.news import say
from images.onboard.store import Shelf, in_use

__all__ = ["Found", "candidates", "judge", "names", "no_room", "plain_files", "shelved",
           "title_of"]  # fmt: skip

_ENTRIES = 500
"""Of a folder that may be models or updates."""
_BUNDLES = 8
"""That are looked into."""
_FILES = 64
"""Of a bundle, and folders as many."""
_MANIFEST_BYTES = 1 << 20
_LANGUAGES = 5
_SERVER = 85
"""Per cent of the memory that the server may take (`lucie-serve.service`)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A folder with a manifest, and what comes of it."""

    bundle: Bundle | None
    """A model that may be used; None: not this one."""
    text: str
    """What a person is told of it."""
    title: str = ""
    """How the model is called."""


def candidates(stick: Path) -> list[Path]:
    """Folders that may be bundles: in the top folder of a stick, and in the folders in it.

    Raises:
        OSError: it cannot be read.
    """
    found = list[Path]()
    for folder in _folders(stick):
        found += [folder] if _is_bundle(folder) else filter(_is_bundle, _folders(folder))
        if len(found) >= _BUNDLES:
            break
    return found[:_BUNDLES]


def names(stick: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Of what lies in the top folder and has a name that is wanted, within bounds.

    Raises:
        OSError: it cannot be read.
    """
    return [each.name for each in _entries(stick, lambda each: wanted(each.name))]


def plain_files(stick: Path) -> list[str]:
    """Names of model files that are in no bundle, in the top folder.

    Raises:
        OSError: it cannot be read.
    """
    return names(stick, lambda name: name.lower().endswith(".gguf"))


def judge(folder: Path, shelf: Shelf) -> Found:
    """Read all of a bundle, and say whether it may be used on this board.

    Args:
        shelf: where the models of the board are.

    Raises:
        OSError: it cannot be read.
    """
    name = folder.name
    if not _bounded(folder):
        return Found(None, say("stick.too-many-files", place=name))
    try:
        bundle = Bundle.open(folder, verify=False)
        if (weights := _weights(bundle)) is None:
            return Found(None, say("stick.not-runnable", place=name))
        title = title_of(bundle)
        if (reason := _no_place(bundle, shelf, title)) is not None:
            return Found(None, reason)
        plan(read_model(weights), _board())
        bundle = Bundle.open(folder, verify=True)
    except LucieError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        reason = str(error).replace(str(folder), name)
        return Found(None, say("stick.refused", place=name, reason=reason))
    return _found("stick.offer", bundle)


def shelved(name: str, shelf: Shelf) -> Found | None:
    """A model of the card that may be used, unless its content is lost: it is not read; None: none.

    Args:
        name: of its folder.
        shelf: where the models of the board are.
    """
    try:
        bundle = shelf.bundle(name)
        if (weights := _weights(bundle)) is None:
            return None
        plan(read_model(weights), _board())
    except LucieError:
        return None
    return _found("stick.card-offer", bundle)


def _weights(bundle: Bundle) -> Path | None:
    """The one file that a board runs; None: it has none, or several."""
    told = bundle.manifest
    found = [file for file in told.files if file.endswith(".gguf") and "/" not in file]
    return bundle.path / found[0] if told.kind == "gguf" and len(found) == 1 else None


def _found(code: str, bundle: Bundle) -> Found:
    told, title = bundle.manifest, title_of(bundle)
    size = size_text(sum(file.size for file in told.files.values()))
    languages = "".join(f", {each[:20]}" for each in told.languages[:_LANGUAGES])
    return Found(bundle, say(code, title=title, size=size, languages=languages), title)


def _no_place(bundle: Bundle, shelf: Shelf, title: str) -> str | None:
    """Why it cannot be put on the card; None: it can, or is there and is not in use."""
    name = bundle.manifest.name
    there = shelf.manifest(name)
    if there is not None:
        if there.files != bundle.manifest.files:
            return say("stick.other", name=name)
        used = in_use() == name and shelf.has(name)
        return say("stick.in-use", title=title) if used else None
    if os.path.lexists(shelf.root / name) and not shelf.is_damaged(name):
        return say("stick.other", name=name)
    return no_room(bundle, shelf, title)


def no_room(bundle: Bundle, shelf: Shelf, title: str, *, lost: bool = False) -> str | None:
    """What a person is told where the card has no room for it; None: it has.

    Args:
        bundle: of a stick.
        shelf: where the models of the board are.
        title: how the model is called.
        lost: see `Shelf.room`.

    Raises:
        OSError: the card cannot be read.
    """
    size = sum(file.size for file in bundle.manifest.files.values())
    free = shelf.room(bundle.manifest.name, lost=lost)
    if free < size:
        others = any(name != in_use() for name in shelf.names())
        code = "stick.no-space-yet" if others else "stick.no-space"
        return say(code, title=title, size=size_text(size), free=size_text(free))
    return None


def title_of(bundle: Bundle) -> str:
    """How a model is called."""
    known = (entry_of_hash(file.sha256) for file in bundle.manifest.files.values())
    return next((entry.title for entry in known if entry), bundle.manifest.name)


def _board() -> Device:
    """This board as the server finds it when it has let go of the model before."""
    here = detect()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    taken = max(SYSTEM, total * (100 - _SERVER) // 100)
    return Device.started(here.board, here.cpu.arch, here.cpu.name, here.cpu.flags, total=total,
                          taken=taken)  # fmt: skip


def _folders(folder: Path) -> list[Path]:
    found = _entries(folder, lambda each: each.is_dir(follow_symlinks=False))
    return [Path(each.path) for each in found]


def _entries(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[os.DirEntry[str]]:
    """A folder may hold thousands of photos; an endless one is ended by systemd."""
    with os.scandir(folder) as found:
        # What is no text, and what others hide, is nobody's model.
        seen = (e for e in found if e.name.isprintable() and e.name[0] != "." and wanted(e))
        return sorted(islice(seen, _ENTRIES), key=lambda each: each.name)


def _is_bundle(folder: Path) -> bool:
    return os.path.lexists(folder / MANIFEST)


def _bounded(folder: Path) -> bool:
    """Whether it is as small as a model's bundle is; not all of it is looked at to tell."""
    if (folder / MANIFEST).lstat().st_size > _MANIFEST_BYTES:
        return False
    return sum(1 for _ in islice(_below(folder), _FILES + 1)) <= _FILES


def _below(root: Path) -> Iterator[os.DirEntry[str]]:
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as found:
            for each in found:
                yield each
                if each.is_dir(follow_symlinks=False):
                    folders.append(Path(each.path))
