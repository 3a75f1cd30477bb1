"""KV states on disk, so that a chat reopened after a restart need not be read again.

One file holds one sequence: its tokens and the engine's state for them. A file
is found by its tokens: the longest common prefix with a prompt wins. Files of
another model, tokenizer, KV type or engine build lie in folders of other
names; a file that is cut short or damaged is removed when it is met. Several
processes may use a folder at once.

    header   magic, key, token count, state size, digest
    tokens   int32 [T]
    state    bytes, as the engine wrote them
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EngineError, HistoryError, UsageError
from edge.paths import cache_dir
from edge.prefixes import longest_shared

__all__ = ["KVStore", "Saved", "forget", "kv_store_bytes", "kv_store_dir"]

_log = logging.getLogger(__name__)
_HEADER = struct.Struct("<8s32sIQ32s")
_MAGIC = b"LUCIEKV1"
_SUFFIX = ".kv"
_UNFINISHED = ".part"
_FORGET = "forget"
# Left free on the disk whatever the bound says: the history must still be written.
_HEADROOM = 64 << 20
# Reading and checking a token's state costs less than this part of evaluating it.
_WORTH_READING = 1 / 4
_SETTING = "LUCIE_KV_CACHE_MB"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Saved:
    """One saved sequence."""

    path: Path
    tokens: array[int]
    state_size: int


def kv_store_dir() -> Path:
    """Where all of them are."""
    return cache_dir() / "kv"


def kv_store_bytes() -> int:
    """Bound on the KV states on disk: `LUCIE_KV_CACHE_MB`, else a tenth of what is free there.

    The tenth is between 64 MiB and 1 GiB.

    Raises:
        UsageError: the setting is no whole number ≥ 0.
    """
    given = os.environ.get(_SETTING)
    if given:
        if not given.isascii() or not given.isdigit() or len(given) > 9:
            raise UsageError("engine.kv-cache-setting", name=_SETTING, value=given)
        return int(given) * _MIB
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    return min(max(shutil.disk_usage(folder).free // 10, 64 * _MIB), 1024 * _MIB)


def forget() -> None:
    """Take all of them from disk, as a conversation that was deleted may be among them.

    Engines at work see it, and write nothing of what they hold from before (`KVStore.forgotten`).

    Raises:
        HistoryError: the cache cannot be written.
    """
    folder = kv_store_dir()
    if not folder.is_dir():
        return
    try:
        (folder / _FORGET).touch()  # first: what is being written meanwhile is given up
        for path in (*folder.glob(f"*/*{_SUFFIX}"), *folder.glob(f"*/*{_UNFINISHED}")):
            path.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or ""
        raise HistoryError("history.not-forgotten", path=str(folder), reason=reason) from error


class KVStore:
    """The saved sequences of one model on one engine.

    Args:
        folder: holds a sub-folder for each key.
        key: whatever a state depends on: model hash, tokenizer, KV type, engine build.
        most_bytes: bound on all files together, those of other keys included; what was
            used longest ago goes first. Zero keeps nothing, as does a folder that cannot be used.
    """

    def __init__(self, folder: Path, key: str, most_bytes: int) -> None:
        self._root = folder
        self._key = hashlib.sha256(key.encode()).digest()
        self._folder = folder / self._key.hex()[:16]
        self._most_bytes = most_bytes
        self._entries: dict[Path, Saved] = {}
        self._forget = folder / _FORGET
        self._heeded = self._asked()
        if most_bytes:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for path in self._folder.iterdir():
                    with suppress(FileNotFoundError):  # another process has just taken it away
                        self._index(path)
            except OSError as error:
                _log.warning("no KV states are kept on disk: %s", error)
                self._most_bytes = 0

    def _index(self, path: Path) -> None:
        if not path.is_file():
            return  # not ours; opening a pipe would wait for ever
        if path.suffix != _SUFFIX:
            _sweep(path)
            return
        saved = self._read_tokens(path)
        if saved is None:
            _log.warning("removed a damaged KV state: %s", path)
            path.unlink()
        else:
            self._entries[path] = saved

    def _read_tokens(self, path: Path) -> Saved | None:
        """The file's tokens, if its header fits its size and this store."""
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return None
            magic, key, n, size, _ = _HEADER.unpack(head)
            whole = _HEADER.size + 4 * n + size
            if (magic, key) != (_MAGIC, self._key) or path.stat().st_size != whole:
                return None
            tokens = array("i")
            tokens.frombytes(file.read(4 * n))
        return Saved(path, tokens, size) if path == self._path(tokens) else None

    def best(self, prompt: array[int]) -> tuple[Saved | None, int]:
        """The saved sequence that shares most with `prompt`, and how many tokens.

        A file is read whole, so one of which little is of use is passed over.
        """
        return longest_shared(self._entries.values(), prompt, _WORTH_READING)

    def covers(self, tokens: array[int]) -> bool:
        """Whether these very tokens are saved as an entry of their own."""
        return self._path(tokens) in self._entries

    def _path(self, tokens: array[int]) -> Path:
        return self._folder / (hashlib.sha256(tokens.tobytes()).hexdigest()[:24] + _SUFFIX)

    def load(self, saved: Saved, into: Callable[[memoryview], None]) -> bool:
        """Hand a saved state to `into`; False where the file is damaged, which removes it."""
        try:
            with (
                saved.path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data,
                memoryview(data) as view,
            ):
                ok = self._check_and_load(view, saved, into)
            if ok:
                with suppress(OSError):  # on a read-only disk nothing grows, and nothing has to go
                    os.utime(saved.path)
        except (OSError, ValueError) as error:
            _log.warning("cannot read a KV state: %s", error)
            ok = False
        if not ok:
            _log.warning("removed a damaged KV state: %s", saved.path)
            self._remove(saved.path)
        return ok

    def _check_and_load(
        self, view: memoryview, saved: Saved, into: Callable[[memoryview], None]
    ) -> bool:
        start = _HEADER.size + 4 * len(saved.tokens)
        if len(view) != start + saved.state_size:
            return False
        with view[_HEADER.size :] as body:
            digest = _HEADER.unpack(view[: _HEADER.size])[4]
            if hashlib.blake2b(body, digest_size=32).digest() != digest:
                return False
        with view[start:] as state:
            try:
                into(state)
            except EngineError as error:
                _log.warning("%s", error)
                return False
        return True

    def forgotten(self) -> bool:
        """Whether `forget` was called since this was last asked; nothing is written until it is."""
        asked = self._asked()
        if asked == self._heeded:
            return False
        self._heeded = asked
        self._entries.clear()
        return True

    def _asked(self) -> int:
        """When `forget` was last called."""
        try:
            return self._forget.stat().st_mtime_ns
        except OSError:
            return 0

    def save(self, tokens: array[int], size: int, fill: Callable[[memoryview], None]) -> bool:
        """Keep a state of `size` bytes, which `fill` writes; older prefixes of it are dropped.

        Returns whether it was kept: not where the bound or the disk has no room.
        """
        path = self._path(tokens)
        try:
            if not self._make_room(_HEADER.size + 4 * len(tokens) + size):
                return False
            kept = self._write(path, tokens, size, fill)
        except (OSError, EngineError) as error:
            _log.warning("KV state not kept: %s", error)
            return False
        if kept:
            self._entries[path] = Saved(path, tokens, size)
        return kept

    def _write(
        self, path: Path, tokens: array[int], size: int, fill: Callable[[memoryview], None]
    ) -> bool:
        # A name of its own: another process may save the same.
        handle, name = tempfile.mkstemp(_UNFINISHED, dir=self._folder)
        unfinished = Path(name)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # see _sweep
            self._write_file(handle, tokens, size, fill)
            kept = self._asked() == self._heeded
            if kept:
                unfinished.replace(path)
        finally:
            os.close(handle)
            unfinished.unlink(missing_ok=True)
        return kept

    def _write_file(
        self, handle: int, tokens: array[int], size: int, fill: Callable[[memoryview], None]
    ) -> None:
        start = _HEADER.size + 4 * len(tokens)
        # Without the blocks a full disk would be a SIGBUS in the middle of the write.
        os.posix_fallocate(handle, 0, start + size)
        with mmap.mmap(handle, start + size) as data, memoryview(data) as view:
            view[_HEADER.size : start] = tokens.tobytes()
            with view[start:] as state:
                fill(state)
            with view[_HEADER.size :] as body:
                digest = hashlib.blake2b(body, digest_size=32).digest()
            view[: _HEADER.size] = _HEADER.pack(_MAGIC, self._key, len(tokens), size, digest)

    def drop_prefixes(self, tokens: array[int], longer_than: int) -> None:
        """Remove entries that `tokens` continues, but for those of up to `longer_than` tokens."""
        for saved in list(self._entries.values()):
            n = len(saved.tokens)
            if longer_than < n < len(tokens) and saved.tokens == tokens[:n]:
                self._remove(saved.path)

    def _make_room(self, wanted: int) -> bool:
        """Remove what was used longest ago until `wanted` bytes fit the bound and the disk."""
        if wanted > self._most_bytes:
            return False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a cache may be cleared
        files = sorted(self._files(), key=lambda f: f[0])
        used = sum(size for _, size, _ in files)
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - _HEADROOM
        for _, size, path in files:
            if used + wanted <= self._most_bytes and wanted <= free:
                break
            self._remove(path)
            used -= size
            free += size
        return used + wanted <= self._most_bytes and wanted <= free

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of every saved state, of all keys."""
        found = []
        for path in self._root.glob(f"*/*{_SUFFIX}"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((stat.st_mtime, stat.st_size, path))
        return found

    def _remove(self, path: Path) -> None:
        self._entries.pop(path, None)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot remove a KV state: %s", error)


def _sweep(path: Path) -> None:
    """Remove what a save that was cut off has left; one under way holds a lock."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        path.unlink()
