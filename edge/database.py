"""The file that holds the conversations: opened, checked, locked, and its errors put into words."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import HistoryError
from edge.migrations import MIGRATIONS, migrate
from edge.salvage import Salvage, set_aside

__all__ = ["open_database", "open_to_read", "translated"]

_WAIT_S = 5.0
"""How long to wait for another process's write."""

_REFUSALS = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}
_SYSTEM_REFUSALS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read-only",
    errno.EACCES: "read-only",
    errno.EPERM: "read-only",
}


def open_database(path: Path) -> tuple[sqlite3.Connection, Salvage | None]:
    """Open the database at `path`, made where there is none, checked, in the newest shape.

    A damaged file is set aside; then the second value says what was carried over.

    Args:
        path: absolute.

    Raises:
        HistoryError: as `edge.history.History.open` says.
    """
    with translated(path), _alone(path):
        try:
            return _connect(path), None
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        salvage = set_aside(path)
        return _connect(path), salvage


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a database that cannot be written, on a disk or card that takes nothing.

    What a program that was killed had left in the log beside it is not seen.

    Raises:
        HistoryError: it is not there, damaged, or not of this program's version.
    """
    with translated(path):
        # Without `immutable`, SQLite would want to make an index of the log.
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            _check(db, _current(db, path))
        except BaseException:
            db.close()
            raise
        return db


def _connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error; one of `_is_damage` for a file that is not a sound database."""
    # Conversations are private; SQLite gives its other files the rights of this one.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    log = path.with_name(f"{path.name}-wal")
    if path.stat().st_size == 0 and log.exists() and log.stat().st_size > 0:
        raise _Unsound("the file is empty, but its log is not")  # SQLite would delete the log
    db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        version = _version(db, path)
        if version == 0:  # SQLite takes it for a new file only, and would write to others
            db.execute("PRAGMA auto_vacuum = FULL")
        for pragma in ("foreign_keys = ON", "secure_delete = ON"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA synchronous = FULL")
        _check(db, version)
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    """How many migrations the file has seen; one of a later program is left as it is."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    known = len(MIGRATIONS)
    if version > known:
        raise HistoryError("history.newer", path=str(path), found=version, known=known)
    return version


def _current(db: sqlite3.Connection, path: Path) -> int:
    """As `_version`, of a file that cannot be brought into shape; one that is not has nothing."""
    version = _version(db, path)
    if version < len(MIGRATIONS):
        raise HistoryError("history.failed", path=str(path), reason=f"version {version}")
    return version


def _check(db: sqlite3.Connection, version: int) -> None:
    """Whether the file is sound and holds our tables. Raises `_Unsound`."""
    # Triggers and views would run with our statements; we have none.
    schema = db.execute("SELECT name, type FROM sqlite_schema").fetchall()
    names, kinds = {name for name, _ in schema}, {kind for _, kind in schema}
    ours = {"conversations", "messages"} <= names if version > 0 else not names
    if not ours or not kinds <= {"table", "index"}:
        raise _Unsound("its tables are not ours")
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _Unsound(verdict)


class _Unsound(sqlite3.DatabaseError):
    """SQLite can open the file, but its contents contradict themselves."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, _Unsound) or _code(error) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _code(error: sqlite3.Error) -> int:
    """The primary result code (sqlite.org/rescode.html); 0 where the error is Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time checks and mends the file: two would set it aside twice."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What SQLite and the system say, as `HistoryError`."""
    try:
        yield
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", 0)
        entry = _REFUSALS.get(_code(error), "failed")
        if extended == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            entry = "gone"
        elif extended == sqlite3.SQLITE_IOERR_SHMSIZE:
            entry = "full"  # no room for the log's index
        raise HistoryError(f"history.{entry}", path=str(path), reason=str(error)) from error
    except OSError as error:
        entry = _SYSTEM_REFUSALS.get(error.errno or 0, "failed")
        raise HistoryError(
            f"history.{entry}", path=str(path), reason=error.strerror or str(error)
        ) from error
