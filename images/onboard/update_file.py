"""An update: a tar archive whose first members say what is in it, and who says so.

    manifest.json        version, and size and SHA-256 of each file
    manifest.json.sig    its signature, as `ssh-keygen -Y sign -n lucie-update` makes one
    root.erofs           the system
    boot/…               what the firmware starts of it

Nothing but the first two is read before the signature holds. It is read by those who have found
it on a stick: headers are ustar's, each read by itself, and extensions of later tars are refused.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic import StringConstraints as Text

from edge.manifest import MANIFEST, File
from images.errors import ImageError

__all__ = [
    "BOOT",
    "CMDLINE",
    "NAMESPACE",
    "SIGNATURE",
    "SIGNER",
    "SIGNERS",
    "SUFFIX",
    "SYSTEM",
    "Manifest",
    "Update",
    "is_update",
    "opened",
]

SIGNERS = Path("/etc/lucie/update-signers")
"""Whose updates a board takes, of its lucie.toml."""
SUFFIX = ".lucie-update"
NAMESPACE = "lucie-update"
"""What a signature is for: one of the same key for something else does not hold."""
SIGNATURE = f"{MANIFEST}.sig"
SYSTEM = "root.erofs"
BOOT = "boot/"
SIGNER = "update"
"""What ssh-keygen calls those who may sign."""
CMDLINE = f"{BOOT}cmdline.txt"
_NEEDED = {SYSTEM, CMDLINE, f"{BOOT}vmlinuz", f"{BOOT}initrd"}
_RECORD = tarfile.BLOCKSIZE
_LARGEST = {MANIFEST: 1 << 18, SIGNATURE: 1 << 14}
_BLOCK = 1 << 20

_NAME = r"^(root\.erofs|boot/(overlays/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})$"


class Manifest(BaseModel):
    """What is signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    version: Annotated[str, Text(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]
    """Of this project."""
    made: AwareDatetime
    """An older one does not follow a newer one."""
    files: Annotated[dict[Annotated[str, Text(pattern=_NAME)], File], Field(max_length=200)]

    @model_validator(mode="after")
    def _can_start(self) -> Self:
        if _NEEDED - self.files.keys():
            raise ValueError
        return self


@dataclass(frozen=True, slots=True)
class Update:
    """An update whose signature holds."""

    manifest: Manifest
    _file: IO[bytes]
    _path: Path

    def files(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each file that the manifest names, once: its name, and its content to be read at once.

        Whoever takes it must compare its hash: the stick may give something else the next time.

        Raises:
            ImageError: the archive is cut short, or holds something else.
        """
        left = dict(self.manifest.files)
        while left:
            name, size = _header(self._file, self._path)
            file = left.pop(name, None)
            if file is None or file.size != size:
                raise _damaged(self._path, ascii(name))
            yield name, _content(self._file, size, self._path)


@contextmanager
def opened(path: Path, signers: Path) -> Iterator[Update]:
    """An update, read up to its signature.

    Args:
        path: the file.
        signers: who may sign (`allowed_signers`, see ssh-keygen(1)); it need not be there.

    Raises:
        ImageError: it is none, is damaged, or is signed by nobody whom this board trusts.
        OSError: it cannot be read.
    """
    with os.fdopen(_regular(path), "rb", buffering=0) as raw:
        told = _small(raw, path, MANIFEST)
        signature = _small(raw, path, SIGNATURE)
        _verify(told, signature, path, signers)
        try:
            manifest = Manifest.model_validate_json(told)
        except ValidationError as error:  # signed, so of a later version of this project
            raise ImageError("update.later", path=path.name) from error
        yield Update(manifest, raw, path)


def is_update(name: str) -> bool:
    """Whether a file of that name says that it is one; `.…` is what other computers hide."""
    return name.lower().endswith(SUFFIX) and not name.startswith(".")


def _regular(path: Path) -> int:
    """Opened, if it is a file: neither a link out of the stick nor a pipe that nobody writes to."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise ImageError("update.none", path=path.name) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("update.none", path=path.name)
    return descriptor


def _verify(told: bytes, signature: bytes, path: Path, signers: Path) -> None:
    if not signers.exists():
        raise ImageError("update.no-signers", path=path.name)
    with tempfile.NamedTemporaryFile(suffix=".sig") as file:
        file.write(signature)
        file.flush()
        command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", SIGNER]
        command += ["-n", NAMESPACE, "-s", file.name]
        ended = subprocess.run(command, input=told, capture_output=True, check=False)
    if ended.returncode != 0:
        raise ImageError("update.not-signed", path=path.name)


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError("update.damaged", path=path.name, reason=reason)


def _small(file: IO[bytes], path: Path, expected: str) -> bytes:
    name, size = _header(file, path)
    if name != expected or size > _LARGEST[expected]:
        raise ImageError("update.none", path=path.name)
    return b"".join(_content(file, size, path))


def _header(file: IO[bytes], path: Path) -> tuple[str, int]:
    try:
        member = tarfile.TarInfo.frombuf(_exactly(file, _RECORD, path), "ascii", "strict")
    except (tarfile.HeaderError, UnicodeError) as error:
        raise _damaged(path, "tar") from error
    if member.type != tarfile.REGTYPE:
        raise _damaged(path, "tar")
    return member.name, member.size


def _content(file: IO[bytes], size: int, path: Path) -> Iterator[bytes]:
    for at in range(0, size, _BLOCK):
        yield _exactly(file, min(_BLOCK, size - at), path)
    _exactly(file, -size % _RECORD, path)


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    found = bytearray()
    while len(found) < size:
        block = file.read(size - len(found))
        if not block:
            raise _damaged(path, "end")
        found += block
    return bytes(found)
