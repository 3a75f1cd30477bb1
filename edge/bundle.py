"""The bundle: the one contract between the stages, a folder with `manifest.json`.

    smollm2-135m-instruct/
    ├── manifest.json                     what it is, what made it, what it was trained on
    └── SmolLM2-135M-Instruct.Q4_1.gguf   one or more files, each with its size and SHA-256

A bundle is complete or absent: it is written to a hidden folder beside its
place, which is renamed at the end. A bundle from elsewhere is hostile until
`Bundle.open` has checked it: no path leaves the folder, nothing in it is a link,
and it holds exactly the files that the manifest names.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from edge.durable import sync_folder, sync_tree
from edge.errors import DamagedModelError, ModelError, StoreError
from edge.fault import fault_text
from edge.manifest import FORMAT, MANIFEST, File, Manifest, inside
from edge.progress import Count, Progress

__all__ = ["DRAFT_PREFIX", "Bundle"]

DRAFT_PREFIX = ".tmp-"
"""How folders begin that are being written, or were when the plug was pulled."""
_MANIFEST_BYTES = 16 << 20
"""A corpus of 100,000 files needs about 10 MB; more is an attack or a mistake."""
_BLOCK = 1 << 20


class _Versioned(BaseModel):
    """The one field that every version has; the rest may be of a later format."""

    format: int


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest has been checked."""

    path: Path
    manifest: Manifest
    sha256: str
    """SHA-256 of `manifest.json`, by which children name it as a `Parent`."""

    @classmethod
    def open(cls, path: Path, *, verify: bool, progress: Progress | None = None) -> Self:
        """Read and check the bundle in `path`.

        Args:
            path: its folder.
            verify: also read every file and compare its hash; else names, kinds and sizes only.
            progress: called while hashing.

        Raises:
            ModelError: there is no bundle, it cannot be read, or it is of a later format.
            DamagedModelError: the folder contradicts its manifest, or the manifest itself.
        """
        try:
            raw = _read_manifest(path)
            bundle = cls(path, _parse(path, raw), hashlib.sha256(raw).hexdigest())
            bundle._check_folder()
            if verify:
                bundle._check_hashes(progress)
        except OSError as error:  # no permission, or a card that is dying
            reason = error.strerror or type(error).__name__
            raise ModelError("bundle.unreadable", path=str(path), reason=reason) from error
        return bundle

    @classmethod
    def write(
        cls,
        target: Path,
        manifest: Manifest,
        files: Mapping[str, Path],
        *,
        move: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Make the bundle `target` of `manifest` and `files`, all or nothing.

        Args:
            target: its folder, which must not be there yet.
            manifest: sizes and hashes that it already names are checked; others are filled in.
            files: for each path in the bundle, the file to take.
            move: take the files away instead of copying them; they must be on the same
                filesystem. A moved file that `manifest` already names is not read again.
            progress: called while copying or hashing.

        Raises:
            StoreError: `target` is there already.
            DamagedModelError: a file is not what `manifest` says, or cannot be named in a bundle.
        """
        if target.exists() or target.is_symlink():
            raise StoreError("bundle.exists", path=str(target))
        for name in files:
            _check_name(target, name)
        draft = target.parent / f"{DRAFT_PREFIX}{target.name}-{secrets.token_hex(4)}"
        draft.mkdir(parents=True)
        try:
            count = Count(sum(source.stat().st_size for source in files.values()), progress)
            made = {
                name: _take(source, draft / name, manifest.files.get(name), move, count)
                for name, source in files.items()
            }
            complete = manifest.model_copy(update={"files": made})
            raw = complete.model_dump_json(indent=1).encode() + b"\n"
            (draft / MANIFEST).write_bytes(raw)
            sync_tree(draft)
            draft.rename(target)
        except BaseException:
            if move:
                _give_back(draft, files)
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_folder(target.parent)
        return cls(target, complete, hashlib.sha256(raw).hexdigest())

    def _check_folder(self) -> None:
        found = dict(_walk(self.path))
        del found[MANIFEST]
        for name, file in self.manifest.files.items():
            size = found.pop(name, None)
            if size is None:
                raise self._damaged("bundle.missing-file", file=name)
            if size != file.size:
                raise self._damaged("bundle.wrong-size", file=name, size=size, expected=file.size)
        if found:
            raise self._damaged("bundle.extra-file", file=_shown(min(found)))

    def _check_hashes(self, progress: Progress | None) -> None:
        count = Count(sum(file.size for file in self.manifest.files.values()), progress)
        for name, file in self.manifest.files.items():
            if _hash(self.path / name, count) != file.sha256:
                raise self._damaged("bundle.wrong-hash", file=name)

    def _damaged(self, code: str, **facts: object) -> DamagedModelError:
        return DamagedModelError(code, path=str(self.path), **facts)


def _check_name(target: Path, name: str) -> None:
    try:
        inside(name)
    except ValueError:
        raise DamagedModelError("bundle.bad-name", path=str(target), file=_shown(name)) from None


def _read_manifest(path: Path) -> bytes:
    irregular = DamagedModelError("bundle.irregular", path=str(path), file=MANIFEST)
    try:
        # Neither follow a link out of the folder nor wait for the writer of a named pipe.
        descriptor = os.open(path / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError("bundle.no-manifest", path=str(path)) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise irregular from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise irregular
        with os.fdopen(descriptor, "rb", closefd=False) as reader:
            raw = reader.read(_MANIFEST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > _MANIFEST_BYTES:
        limit = _MANIFEST_BYTES >> 20
        raise DamagedModelError("bundle.manifest-too-big", path=str(path), limit=limit)
    return raw


def _parse(path: Path, raw: bytes) -> Manifest:
    try:
        version = _Versioned.model_validate_json(raw).format
        if version > FORMAT:
            raise ModelError("bundle.newer-format", path=str(path), format=version, known=FORMAT)
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise DamagedModelError(
            "bundle.bad-manifest", path=str(path), fault=fault_text(error)
        ) from None


def _shown(text: str) -> str:
    """`text` without what could steer a terminal: names in a bundle are hostile too."""
    return text if text.isprintable() else ascii(text)


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    """Path and size of every regular file; anything but files and folders is refused."""
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                name = str(Path(entry.path).relative_to(root))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False).st_size
                else:
                    raise DamagedModelError("bundle.irregular", path=str(root), file=_shown(name))


def _hash(path: Path, count: Count) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as reader:
        while block := reader.read(_BLOCK):
            digest.update(block)
            count.add(len(block))
    return digest.hexdigest()


def _take(source: Path, target: Path, known: File | None, move: bool, count: Count) -> File:
    """Copy or move one file; returns its size and hash, which must be `known` if that is given."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if move:
        size = source.stat().st_size
        trusted = known is not None and known.size == size
        sha256 = known.sha256 if trusted and known else _hash(source, count)
        file = File(sha256=sha256, size=size)
        source.rename(target)
        with suppress(PermissionError):  # of a disk that knows no owners
            # Some libraries let nobody else read what they write: as others as its folder.
            target.chmod(target.parent.stat().st_mode & 0o666)
    else:
        file = _copy(source, target, count)
    if known and known != file:
        raise DamagedModelError("bundle.wrong-hash", path=str(source.parent), file=source.name)
    return file


def _copy(source: Path, target: Path, count: Count) -> File:
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(_BLOCK):
            writer.write(block)
            digest.update(block)
            size += len(block)
            count.add(len(block))
    return File(sha256=digest.hexdigest(), size=size)


def _give_back(draft: Path, files: Mapping[str, Path]) -> None:
    """Return moved files to where they came from, so that a download is not lost."""
    for name, source in files.items():
        if (draft / name).exists() and not source.exists():
            (draft / name).rename(source)
