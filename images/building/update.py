"""Of a finished image, an update for boards that run an earlier one."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from edge import __version__
from edge.manifest import MANIFEST, File
from edge.workshop import draft_folder
from images.building.debian import tools
from images.errors import ImageError
from images.onboard.slots import without_a_cards_own
from images.onboard.update_file import (
    BOOT,
    CMDLINE,
    NAMESPACE,
    SIGNATURE,
    SUFFIX,
    Manifest,
)
from images.unpacking import unpack

__all__ = ["make_update", "pack", "public_key"]


def public_key(key: Path) -> str:
    """The public half, in one line.

    Args:
        key: either half.

    Raises:
        ImageError: it is no SSH key; there is no ssh-keygen.
    """
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if not public.is_file():
        return _ssh_keygen(key, "-y", "-f", str(key)).strip()
    _ssh_keygen(public, "-l", "-f", str(public))
    written = public.read_text(encoding="utf-8").strip()
    if not written.isprintable():
        raise ImageError("update.no-key", path=str(public), reason=ascii(written[:40]))
    return written


def _ssh_keygen(key: Path, *arguments: str) -> str:
    """What it says; who has to type a passphrase is asked for it on the terminal."""
    command = ["ssh-keygen", *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ImageError("update.no-ssh-keygen") from error
    if ended.returncode != 0:
        reason = (ended.stderr.strip().splitlines() or [str(ended.returncode)])[-1]
        raise ImageError("update.no-key", path=str(key), reason=reason)
    return ended.stdout


def make_update(
    image: Path, key: Path, out: Path | None, log: Path, say: Callable[[str], object]
) -> Path:
    """Make an update.

    Args:
        image: as `lucie image build` makes one.
        key: to sign with, of SSH; a public one, where an agent has its other half.
        out: the file to make; None: one named by version and day in this folder.
        log: where the work is told.
        say: called with a word for each part of the work.

    Returns:
        The file.

    Raises:
        ImageError: it is not there, or cannot be unpacked; it is no key; the file is there
            already, or cannot be written.
        BuildError: it is no card of ours, or a damaged one.
    """
    made = datetime.now(UTC).replace(microsecond=0)
    out = out or Path(f"lucie-{__version__}-{made:%Y%m%d}{SUFFIX}")
    if out.exists():
        raise ImageError("update.exists", path=str(out))
    public_key(key)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    try:
        with draft_folder(out) as folder:
            _draft(image, key, made, folder, log, say).rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError("update.unwritable", path=str(out), reason=reason) from error
    return out


def _draft(
    image: Path, key: Path, made: datetime, folder: Path, log: Path, say: Callable[[str], object]
) -> Path:
    say("unpacking")
    unpack(image, folder / "card.img")
    say("taking")
    files = folder / "files"
    files.mkdir()
    tools(log).run("update", "/work/card.img", "/work/files", binds={"/work": folder}, log=log)
    (folder / "card.img").unlink()
    words = files / CMDLINE
    words.write_text(
        f"{without_a_cards_own(words.read_text(encoding='utf-8'))}\n", encoding="utf-8"
    )
    say("signing")
    pack(files, made, key, folder / "update")
    return folder / "update"


def pack(files: Path, made: datetime, key: Path, out: Path) -> Manifest:
    """Sign files and put them together.

    Args:
        files: a folder with `root.erofs` and `boot`.
        made: the moment that decides which update follows which.
        key: as of `make_update`.
        out: the file, which is written.

    Raises:
        ImageError: it cannot be signed; there is no ssh-keygen.
    """
    names = sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())
    names.sort(key=lambda name: name.startswith(BOOT))  # the system first
    manifest = Manifest(
        version=__version__, made=made, files={name: _file(files / name) for name in names}
    )
    told = manifest.model_dump_json(indent=1).encode() + b"\n"
    with tarfile.open(out, "x", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in ((MANIFEST, told), (SIGNATURE, _signed(told, key))):
            _add(archive, name, io.BytesIO(content), len(content), made)
        for name in names:
            with (files / name).open("rb") as file:
                _add(archive, name, file, manifest.files[name].size, made)
    return manifest


def _add(
    archive: tarfile.TarFile, name: str, content: IO[bytes], size: int, made: datetime
) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, int(made.timestamp())
    archive.addfile(member, content)


def _file(path: Path) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(sha256=digest, size=path.stat().st_size)


def _signed(told: bytes, key: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, MANIFEST)
        file.write_bytes(told)
        _ssh_keygen(key, "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(file))
        return file.with_name(SIGNATURE).read_bytes()
