"""Putting a model into the store: from the catalog, a hub, a package index, a file or a folder.

A model file is brought into `.partial/NAME` first, checked there, and becomes a
bundle by being moved. What is known of it is declared by the catalog; of a file
from elsewhere nothing is known, and its manifest says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge import __version__
from edge.bundle import DRAFT_PREFIX, Bundle
from edge.catalog import Entry, catalog, entry_of_hash
from edge.download import Fetched, Want, check_space
from edge.errors import ModelError, StoreError, UnknownModelError, UsageError
from edge.gguf_header import read_header
from edge.gguf_window import printable
from edge.header import SUFFIXES, read_model
from edge.manifest import MANIFEST, DataSource, File, Manifest
from edge.progress import Count, Progress
from edge.sources import FileSource, Notice, fetch_first, parse
from edge.store import NAME, Model, writing

if TYPE_CHECKING:
    from edge.gguf_types import GGUFHeader
    from edge.store import Store

__all__ = ["Wish", "add"]

_BLOCK = 1 << 20
_PLAIN_FILE = re.compile(r"[\w.+-]{1,96}\.gguf", re.ASCII)
_HUGGING_FACE = re.compile(
    r".+\.(json|safetensors|txt|model|jinja|md)|(LICENSE|LICENCE|NOTICE).*", re.IGNORECASE
)
"""Files of a model folder that are data. Weights in pickle can run code and are left."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How to add a model; as in `Store.add`."""

    name: str | None
    progress: Progress | None
    notice: Notice | None


def add(store: Store, text: str, wish: Wish) -> Model:
    """Do the work of `Store.add`."""
    if entry := catalog().get(text):
        try:
            return _add_remote(store, entry.sources, entry.name, entry, wish)
        except StoreError as error:
            if error.code == "store.taken" and not wish.name and store.holds(entry.name):
                return store.get(entry.name)  # another process may have added it meanwhile
            raise
    source = parse(text)
    if not isinstance(source, FileSource):
        return _add_remote(store, [text], _slug(source.file), None, wish)
    path = source.path
    if (path / MANIFEST).is_file():
        return _add_bundle(store, path, wish)
    if (path / "config.json").is_file():
        return _add_hugging_face(store, path, wish)
    if path.is_file():
        return _add_file(store, path, wish)
    if path.exists():
        raise ModelError("store.not-a-model", path=str(path))
    if NAME.fullmatch(text):
        raise UnknownModelError("store.unknown", name=text, known=", ".join(catalog()))
    raise UnknownModelError("store.no-file", path=str(path))


def _called(wish: Wish, name: str, entry: Entry | None) -> str:
    """How a model is to be called: as is wished, or else `name`.

    Raises:
        UsageError: no model may be called so, or one of the catalog is, and this is not it:
            what the catalog knows of that one would be told of this one.
    """
    called = name if wish.name is None else wish.name
    if not NAME.fullmatch(called):
        raise UsageError("store.bad-name", name=printable(called))
    if called in catalog() and (entry is None or entry.name != called):
        raise UsageError("store.reserved", name=called)
    return called


def _origin(manifest: Manifest) -> Entry | None:
    """The entry of the catalog that a bundle was made of."""
    hashes = {file.sha256 for file in manifest.files.values()}
    source = manifest.recipe.get("source")
    return next((e for e in catalog().values() if e.sha256 in hashes or source in e.sources), None)


def _slug(file: str) -> str:
    """A name made of the name of a file."""
    stem = file.removesuffix(".gguf").lower()
    return re.sub(r"[^a-z0-9._]+", "-", stem).strip("-._")[:96] or "model"


@contextmanager
def _place(store: Store, name: str, notice: Notice | None) -> Iterator[Path]:
    """Hold `name`; gives its folder for unfinished files, which stays if they do.

    Raises:
        StoreError: there is a model of that name.
    """
    with store.locked(name, notice), writing(store.root):
        _sweep(store.root, name)
        if (store.root / name).exists():
            raise StoreError("store.taken", name=name)
        folder = store.partial(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # not empty: there is something to continue
                folder.rmdir()
            raise
        shutil.rmtree(folder)


def _sweep(root: Path, name: str) -> None:
    """Clear what a pulled plug left of writing or removing `name`."""
    left = re.compile(re.escape(f"{DRAFT_PREFIX}{name}-") + "([0-9a-f]{8}|removed)")
    for path in root.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path)


def _add_remote(
    store: Store, sources: list[str] | tuple[str, ...], name: str, entry: Entry | None, wish: Wish
) -> Model:
    called = _called(wish, name, entry)
    with _place(store, called, wish.notice) as folder:
        fetched = fetch_first(
            sources,
            folder,
            Want(entry.sha256, entry.size) if entry else Want(),
            progress=wish.progress,
            notice=wish.notice,
        )
        _keep(store, called, fetched, entry)
    return store.get(called)


def _add_file(store: Store, path: Path, wish: Wish) -> Model:
    if path.suffix == ".onnx":
        raise ModelError("store.onnx-file", path=str(path))
    read_header(path)  # a file that is none is refused before gigabytes are copied
    entry = _recognized(path)
    called = _called(wish, entry.name if entry else _slug(path.name), entry)
    with _place(store, called, wish.notice) as folder:
        check_space(folder, path.stat().st_size)
        _keep(store, called, _copy(path, folder / path.name, wish.progress), entry)
    return store.get(called)


def _recognized(path: Path) -> Entry | None:
    """The entry of the catalog whose file this is, byte for byte."""
    if path.stat().st_size not in {entry.size for entry in catalog().values()}:
        return None
    with path.open("rb") as reader:
        return entry_of_hash(hashlib.file_digest(reader, "sha256").hexdigest())


def _copy(source: Path, target: Path, progress: Progress | None) -> Fetched:
    digest = hashlib.sha256()
    count = Count(source.stat().st_size, progress)
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            while block := reader.read(_BLOCK):
                writer.write(block)
                digest.update(block)
                count.add(len(block))
            writer.flush()
            os.fsync(writer.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Fetched(target, digest.hexdigest(), count.done, f"file:{source.name}")


def _keep(store: Store, name: str, fetched: Fetched, entry: Entry | None) -> None:
    """Make a bundle of a model file that has come."""
    try:
        header = read_header(fetched.path)
    except ModelError:
        fetched.path.unlink()
        raise
    file = fetched.path.name if _PLAIN_FILE.fullmatch(fetched.path.name) else "model.gguf"
    manifest = Manifest(
        kind="gguf",
        name=name,
        recipe={"step": "import", "source": fetched.source},
        software={"lucie-edge": __version__},
        licence=entry.licence if entry else _said(header, "general.license"),
        languages=entry.languages if entry else _languages(header),
        provenance="declared" if entry else "unknown",
        data=tuple(DataSource(**source) for source in entry.data) if entry else (),
        files={file: File(sha256=fetched.sha256, size=fetched.size)},
    )
    Bundle.write(store.root / name, manifest, {file: fetched.path}, move=True)


def _said(header: GGUFHeader, key: str) -> str | None:
    """A short text in the file's metadata."""
    value = header.metadata.get(key)
    return value if isinstance(value, str) and value.isprintable() and len(value) < 100 else None


def _languages(header: GGUFHeader) -> tuple[str, ...]:
    values = header.metadata.get("general.languages")
    if not isinstance(values, tuple):
        return ()
    return tuple(v for v in values if isinstance(v, str) and re.fullmatch(r"[a-z]{2,3}", v))


def _add_bundle(store: Store, path: Path, wish: Wish) -> Model:
    bundle = Bundle.open(path, verify=True, progress=wish.progress)
    called = _called(wish, bundle.manifest.name, _origin(bundle.manifest))
    for file in bundle.manifest.files:
        if file.endswith(SUFFIXES):
            read_model(path / file)
    with _place(store, called, wish.notice):
        files = {file: path / file for file in bundle.manifest.files}
        check_space(store.root, sum(file.size for file in bundle.manifest.files.values()))
        manifest = bundle.manifest.model_copy(update={"name": called})
        Bundle.write(store.root / called, manifest, files, progress=wish.progress)
    return store.get(called)


def _add_hugging_face(store: Store, path: Path, wish: Wish) -> Model:
    files = {
        file.name: file
        for file in sorted(path.iterdir())
        if file.is_file() and _HUGGING_FACE.fullmatch(file.name)
    }
    if not any(name.endswith(".safetensors") for name in files):
        raise ModelError("store.no-safetensors", path=str(path))
    try:
        json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelError("store.not-a-model", path=str(path)) from None
    called = _called(wish, _slug(path.resolve().name), None)
    manifest = Manifest(
        kind="model",
        name=called,
        recipe={"step": "import", "source": f"file:{path.name}"},
        software={"lucie-edge": __version__},
        provenance="unknown",
    )
    with _place(store, called, wish.notice):
        check_space(store.root, sum(file.stat().st_size for file in files.values()))
        Bundle.write(store.root / called, manifest, files, progress=wish.progress)
    return store.get(called)
