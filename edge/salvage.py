"""What to do with a damaged conversations' database: keep it, and carry over what can be read.

The damaged file is only read, then renamed, never deleted. Rows are fetched one
by one, so a destroyed page costs the rows on it and no others.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.durable import sync_folder
from edge.migrations import migrate
from edge.titles import title_from

__all__ = ["Salvage", "set_aside"]

_MOST_IDS = 100_000
"""How many ids to try one by one, in a file that may claim to hold any number of them."""

_CONVERSATION = "id, title, created"
_MESSAGE = "id, conversation_id, parent_id, role, content, state, created, model, facts"
_ROLES = ("system", "user", "assistant")
_STATES = ("complete", "writing", "stopped", "failed")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Salvage:
    """A damaged database was replaced by what could be read of it."""

    set_aside: Path
    """Where the damaged file is now."""
    conversations: int
    """How many were carried over."""
    messages: int
    """How many were carried over."""


def set_aside(path: Path) -> Salvage:
    """Replace the damaged database at `path` by a sound one holding its readable rows.

    The new file is complete and on disk before the old one is moved, so a cut at
    any moment leaves one of the two in place.

    Raises:
        sqlite3.Error, OSError: the new file cannot be written; `path` is as it was.
    """
    conversations, messages = _read(path)
    fresh = path.with_name(f"{path.name}.new")
    for leftover in (fresh, _beside(fresh, "-journal")):
        leftover.unlink(missing_ok=True)
    _write(fresh, conversations, messages)
    aside = _free_name(path)
    # The write-ahead log first: SQLite would replay it onto any file of that name.
    for suffix in ("-wal", "-shm"):
        if _beside(path, suffix).exists():
            _beside(path, suffix).rename(_beside(aside, suffix))
    path.rename(aside)
    fresh.replace(path)
    sync_folder(path.parent)
    return Salvage(aside, len(conversations), len(messages))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _free_name(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.stem}-damaged-{stamp}-{count}{path.suffix}")
    return aside


def _read(path: Path) -> tuple[dict[int, Row], dict[int, Row]]:
    """Conversations and messages by id, checked, with a conversation for each message."""
    if path.stat().st_size == 0:
        return {}, {}  # SQLite would delete the log that may stand beside it
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        conversations = _table(db, "conversations", _CONVERSATION, _mended_conversation)
        messages = _table(db, "messages", _MESSAGE, _mended_message)
    last_of: dict[int, int] = {}
    for id_, row in sorted(messages.items()):
        _, conversation, parent, *rest = row
        conversations.setdefault(conversation, (conversation, "", rest[3]))
        # The first message has no parent; one whose parent is lost follows the one before it.
        known = parent in messages and messages[parent][1] == conversation and parent < id_
        if not known and parent is not None:
            parent = last_of.get(conversation)
        messages[id_] = (id_, conversation, parent, *rest)
        last_of[conversation] = id_
        # A title that is lost is made again, as it was made at first.
        _, title, created = conversations[conversation]
        if not title and rest[0] == "user":
            conversations[conversation] = (conversation, title_from(rest[1]), created)
    return conversations, messages


def _table(
    db: sqlite3.Connection, name: str, columns: str, mend: Callable[[Row], Row | None]
) -> dict[int, Row]:
    select = f"SELECT {columns} FROM {name}"  # noqa: S608 - both names are ours
    rows: dict[int, Row] = {}
    # Without this, a file shorter than its header says is refused as a whole.
    _read_until_damage(db, "PRAGMA writable_schema = ON", rows)
    if not _read_until_damage(db, f"{select} ORDER BY id", rows):
        low = max(rows, default=0)
        behind: dict[int, Row] = {}
        _read_until_damage(db, f"{select} ORDER BY id DESC", behind)
        rows |= behind
        high = min(behind, default=_last_id(db, name) + 1)
        for id_ in range(low + 1, min(high, low + _MOST_IDS)):
            _read_until_damage(db, f"{select} WHERE id = ?", rows, id_)
    mended = ((id_, mend(row)) for id_, row in rows.items())
    return {id_: row for id_, row in mended if row is not None}


def _read_until_damage(
    db: sqlite3.Connection, query: str, rows: dict[int, Row], *values: int | str
) -> bool:
    """Add to `rows`, by their first column; whether nothing was in the way."""
    try:
        for row in db.execute(query, values):
            rows[row[0]] = row
    except sqlite3.DatabaseError:
        return False
    return True


def _last_id(db: sqlite3.Connection, table: str) -> int:
    """The highest id that was ever given in `table`; 0 where that cannot be read."""
    found: dict[int, Row] = {}
    _read_until_damage(db, "SELECT seq FROM sqlite_sequence WHERE name = ?", found, table)
    return max(found, default=0)


def _mended_conversation(row: Row) -> Row:
    id_, title, created = row
    return id_, title if isinstance(title, str) else "", _mended_time(created)


def _mended_message(row: Row) -> Row | None:
    id_, conversation, parent, role, content, state, created, model, facts = row
    if not isinstance(conversation, int) or role not in _ROLES or not isinstance(content, str):
        return None
    return (
        id_,
        conversation,
        parent,
        role,
        content.rstrip("\0"),  # SQLite reads the lost end of a truncated page as zeros
        state if state in _STATES else "stopped",
        _mended_time(created),
        model if isinstance(model, str) else None,
        facts if _is_object(facts) else "{}",
    )


def _mended_time(text: object) -> str:
    try:
        if isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _is_object(text: object) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _write(path: Path, conversations: dict[int, Row], messages: dict[int, Row]) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in ("auto_vacuum = FULL", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {pragma}")
        migrate(db)
        db.execute("BEGIN")
        db.executemany(
            f"INSERT INTO conversations ({_CONVERSATION}) VALUES (?, ?, ?)",  # noqa: S608
            (row for _, row in sorted(conversations.items())),
        )
        db.executemany(
            f"INSERT INTO messages ({_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (row for _, row in sorted(messages.items())),
        )
        db.execute("COMMIT")
