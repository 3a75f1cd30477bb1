"""The models on this device: each a bundle in the folder `models`, addressed by its name.

    models/
    ├── smollm2-135m-instruct/    a bundle
    ├── .locks/                   one file a name: two adds of one model wait for each other
    └── .partial/NAME/            what has come of a download that was stopped

Finding a model reads no manifest and imports nothing heavy, as every start of the
chat does it. Networking happens in `Store.add` alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ModelError, StoreError, UnknownModelError, UsageError
from edge.header import SUFFIXES
from edge.paths import data_dir

if TYPE_CHECKING:
    from edge.bundle import Bundle
    from edge.manifest import Manifest
    from edge.progress import Progress
    from edge.sources import Notice

__all__ = ["DEFAULT_MODEL", "NAME", "Model", "Store", "default_model", "writing"]

DEFAULT_MODEL = "smollm2-135m-instruct"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
"""How models may be called, which also makes their names safe in a path."""
_MANIFEST = "manifest.json"


def default_model() -> str:
    """The model that is meant where none is named: that of `LUCIE_MODEL`, or the embedded one."""
    return os.environ.get("LUCIE_MODEL") or DEFAULT_MODEL


@dataclass(frozen=True, slots=True)
class Model:
    """A model on this device."""

    name: str
    path: Path
    """What an engine loads: the GGUF or ONNX file. The folder, where there is no single one."""
    folder: Path | None
    """The bundle; None for a plain file from elsewhere."""

    @property
    def runnable(self) -> bool:
        """Whether an engine of this device can load it."""
        return self.path.suffix in SUFFIXES

    @property
    def weights(self) -> Path:
        """The file that an engine loads.

        Raises:
            ModelError: no engine here runs it.
        """
        if not self.runnable:
            raise ModelError("store.not-runnable", name=self.name, path=str(self.path))
        return self.path

    @property
    def manifest(self) -> Manifest | None:
        """The checked manifest; None for a plain file, of which nothing is known.

        Raises:
            ModelError: the bundle is damaged or of a later format.
        """
        if self.folder is None:
            return None
        from edge.bundle import Bundle

        return Bundle.open(self.folder, verify=False).manifest


class Store:
    """The folder of models; it need not be there before something is added."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or data_dir() / "models"

    def find(self, name_or_path: str | None = None) -> Model:
        """The model of that name or path, or the default one, ready for an engine.

        Args:
            name_or_path: a name in this store, the path of a GGUF or ONNX file or of a bundle;
                None: `default_model()`.

        Raises:
            UnknownModelError: it is not on this device; the text says how to get it.
            ModelError: it is a bundle that no engine here runs.
        """
        wanted = default_model() if name_or_path is None else name_or_path
        model = _at(Path(wanted).expanduser()) if _is_path(wanted) else self.get(wanted)
        _ = model.weights  # or the error that says why there are none
        return model

    def get(self, name: str) -> Model:
        """The bundle of that name, whatever its kind.

        Raises:
            UnknownModelError: it is not in this store.
        """
        if not self.holds(name):
            raise self._unknown(name)
        return _bundle(self.root / name)

    def list(self) -> list[Model]:
        """Every bundle, by name."""
        if not self.root.is_dir():
            return []
        names = sorted(path.name for path in self.root.iterdir())
        return [_bundle(self.root / name) for name in names if self.holds(name)]

    def add(
        self,
        source: str,
        *,
        name: str | None = None,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> Model:
        """Put a model into the store.

        Args:
            source: a name of the catalog, or what `edge.sources.parse` reads.
            name: how to call it; by default as the catalog, the bundle or the file does.
            progress: called as bytes come.
            notice: called with what the user should know meanwhile.

        Returns:
            The model. One of the catalog that is there already is returned as it is.

        Raises:
            UsageError: `source` cannot be read.
            StoreError: it cannot be had or written, or its name is taken.
            ModelError: it is damaged, or not a model that runs here.
        """
        from edge.adding import Wish, add

        return add(self, source, Wish(name, progress, notice))

    def verify(self, name: str, progress: Progress | None = None) -> Bundle:
        """Read every byte of a model and compare it with its manifest.

        Raises:
            UnknownModelError: it is not in this store.
            ModelError: it is damaged; the error says what.
        """
        from edge.bundle import Bundle
        from edge.header import read_model

        model = self.get(name)
        bundle = Bundle.open(self.root / name, verify=True, progress=progress)
        if model.runnable:
            read_model(model.path)
        return bundle

    def remove(self, name: str) -> None:
        """Take a model away, with what is left of downloads of it.

        A program that has it loaded keeps it: the file lives on until it lets go.

        Raises:
            UnknownModelError: it is not in this store.
            StoreError: the folder cannot be written.
        """
        if not NAME.fullmatch(name):
            raise self._unknown(name)
        with self.locked(name), writing(self.root):
            if not (self.root / name).is_dir():  # damaged ones go as well
                raise self._unknown(name)
            gone = self.root / f".tmp-{name}-removed"
            shutil.rmtree(gone, ignore_errors=True)
            (self.root / name).rename(gone)
            shutil.rmtree(gone)
            shutil.rmtree(self.partial(name), ignore_errors=True)

    def partial(self, name: str) -> Path:
        """Where an unfinished download of `name` is kept."""
        return self.root / ".partial" / name

    @contextmanager
    def locked(self, name: str, notice: Notice | None = None) -> Iterator[None]:
        """Hold the name alone among all processes, waiting for whoever has it.

        Raises:
            UsageError: no model may be called so.
        """
        if not NAME.fullmatch(name):
            from edge.gguf_window import printable

            raise UsageError("store.bad-name", name=printable(name))
        with writing(self.root):
            locks = self.root / ".locks"
            locks.mkdir(parents=True, exist_ok=True)
            handle = (locks / name).open("ab")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if notice:
                    notice("store.waiting", {"name": name})
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def holds(self, name: str) -> bool:
        """Whether a bundle of that name is here."""
        return bool(NAME.fullmatch(name)) and (self.root / name / _MANIFEST).is_file()

    def _unknown(self, name: str) -> UnknownModelError:
        from edge.catalog import catalog
        from edge.gguf_window import printable

        if name in catalog():
            return UnknownModelError("store.not-here", name=name)
        known = [model.name for model in self.list()] + [
            entry for entry in catalog() if not self.holds(entry)
        ]
        return UnknownModelError("store.unknown", name=printable(name), known=", ".join(known))


def _is_path(text: str) -> bool:
    return "/" in text or text.startswith(("~", ".")) or text.endswith(SUFFIXES)


def _at(path: Path) -> Model:
    """The model at a path of the user's choice."""
    if (path / _MANIFEST).is_file():
        return _bundle(path.resolve())
    if path.is_dir():
        return _plain_folder(path.resolve())
    if not path.is_file():
        raise UnknownModelError("store.no-file", path=str(path))
    path = path.resolve()
    if path.suffix not in SUFFIXES:
        raise ModelError("store.wrong-suffix", path=str(path))
    for folder in path.parents[:2]:  # an ONNX file may be in a folder of its bundle
        if (folder / _MANIFEST).is_file():
            return Model(folder.name, path, folder)
    return Model(path.stem, path, None)


def _plain_folder(folder: Path) -> Model:
    """A folder from elsewhere with one model in it."""
    files = _model_files(folder)
    if len(files) != 1:
        raise UnknownModelError("store.not-one-model", path=str(folder), count=len(files))
    return Model(folder.name, files[0], None)


def _bundle(folder: Path) -> Model:
    files = _model_files(folder)
    return Model(folder.name, files[0] if len(files) == 1 else folder, folder)


def _model_files(folder: Path) -> list[Path]:
    patterns = [f"*{suffix}" for suffix in SUFFIXES] + ["onnx/*.onnx"]
    return [file for pattern in patterns for file in sorted(folder.glob(pattern))]


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn the system's refusals into words: a full disk, a folder that may not be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError("store.disk-full", path=str(root)) from error
        where = error.filename or root
        raise StoreError("store.io", path=str(where), reason=error.strerror or "") from error
