"""The conversations of this user, in one SQLite file.

A commit is on disk when the call returns (write-ahead log, synchronous FULL), so a
pulled plug loses what came after the last call. Several processes may use the file
at once. A damaged file is set aside and replaced by what can be read of it
(`edge.salvage`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from edge.database import open_database, open_to_read, translated
from edge.errors import HistoryError
from edge.salvage import Salvage
from edge.titles import title_from

__all__ = ["Conversation", "History", "Role", "State", "StoredMessage"]

Role = Literal["system", "user", "assistant"]
State = Literal["complete", "writing", "stopped", "failed"]
"""`writing` in a file that nobody writes to: the program ended in mid-answer."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of the list of conversations."""

    id: int
    title: str
    created: datetime
    updated: datetime
    """When its newest message was begun."""
    messages: int


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message, as it stands in the file."""

    id: int
    parent_id: int | None
    role: Role
    content: str
    state: State
    created: datetime
    model: str | None
    """Name of the model that wrote it; None for what a person wrote."""
    facts: Mapping[str, Any]
    """What the answer cost: the fields of `edge.client.Done` that are known."""


class History:
    """An open database; for use by the thread that opened it.

    Every method raises `HistoryError` when the file cannot be read or written;
    nothing is half done then, and the call may be made again.
    """

    salvage: Salvage | None
    """The file was damaged when it was opened: what became of it."""

    def __init__(self, path: Path, db: sqlite3.Connection, salvage: Salvage | None) -> None:
        self._path = path
        self._db = db
        self._file = _identity(path)
        self.salvage = salvage

    @classmethod
    def open_to_read(cls, path: Path) -> Self:
        """Open a database that cannot be written; every method that would write fails.

        Raises:
            HistoryError: it is not there, damaged, or of another version of this program.
        """
        path = path.absolute()
        return cls(path, open_to_read(path), None)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database at `path`, made where there is none, private to the user.

        Raises:
            HistoryError: `history.newer` for a file of a later version of this program;
                `history.read-only`, `full`, `busy` or `failed` for what the system says.
        """
        path = path.absolute()
        db, salvage = open_database(path)
        return cls(path, db, salvage)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def in_place(self) -> bool:
        """Whether its path still leads to this file: a removed one can be written to as well."""
        return self._file == _identity(self._path)

    def conversations(self, limit: int | None = None) -> list[Conversation]:
        """All conversations that have messages, the one spoken in last first."""
        # By id, not by time: a board without a clock of its own may live in 1970.
        query = """
            SELECT c.id, c.title, c.created, m.created, m.count
            FROM conversations c JOIN (
                SELECT conversation_id, max(id) AS newest, created, count(*) AS count
                FROM messages GROUP BY conversation_id
            ) m ON m.conversation_id = c.id
            ORDER BY m.newest DESC LIMIT ?
        """
        with translated(self._path):
            rows = self._db.execute(query, (-1 if limit is None else limit,)).fetchall()
        return [
            Conversation(id_, title, _time(created), _time(updated), count)
            for id_, title, created, updated, count in rows
        ]

    def create(self) -> int:
        """Begin a conversation; its first user message will give it a title. Returns its id."""
        with self._writing() as db:
            query = "INSERT INTO conversations (title, created) VALUES ('', ?)"
            return _inserted(db.execute(query, (_now(),)))

    def rename(self, conversation: int, title: str) -> None:
        """Give a conversation another title."""
        with self._writing() as db:
            query = "UPDATE conversations SET title = ? WHERE id = ?"
            self._changed(db.execute(query, (title_from(title), conversation)))

    def delete(self, conversation: int) -> None:
        """Delete a conversation; its text is overwritten in the file, which gives its room back."""
        # Without this, each message would delete the one after it, one level deeper each time:
        # SQLite goes 1,000 levels deep.
        untie = "UPDATE messages SET parent_id = NULL WHERE conversation_id = ?"
        with self._writing() as db:
            db.execute(untie, (conversation,))
            self._changed(db.execute("DELETE FROM conversations WHERE id = ?", (conversation,)))
        with translated(self._path):
            # The log still holds the text until it is emptied.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def append(
        self,
        conversation: int,
        role: Role,
        content: str,
        *,
        parent: int | None,
        state: State = "complete",
        model: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a message after `parent` (None: the first). Returns its id.

        Raises:
            HistoryError: also `history.gone`, when the conversation has been deleted meanwhile.
        """
        query = """
            INSERT INTO messages
                (conversation_id, parent_id, role, content, state, created, model, facts)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """
        told = json.dumps(dict(facts or {}))
        with self._writing() as db:
            values = (conversation, parent, role, _storable(content), state, _now(), model, told)
            id_ = _inserted(db.execute(query, values))
            if role == "user":
                name = "UPDATE conversations SET title = ? WHERE id = ? AND title = ''"
                db.execute(name, (title_from(_storable(content)), conversation))
            return id_

    def write(
        self,
        message: int,
        content: str,
        state: State,
        facts: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> None:
        """Replace what an answer says so far; a `model` that was not known is now.

        Raises:
            HistoryError: also `history.gone`, when its conversation has been deleted meanwhile.
        """
        query = (
            "UPDATE messages SET content = ?, state = ?, facts = ?, model = coalesce(?, model)"
            " WHERE id = ?"
        )
        values = (_storable(content), state, json.dumps(dict(facts or {})), model, message)
        with self._writing() as db:
            self._changed(db.execute(query, values))

    def load(self, conversation: int) -> list[StoredMessage]:
        """The messages from the first to the newest, along that one's branch.

        Raises:
            HistoryError: also `history.gone`.
        """
        # A parent is older than its children, so the ids fall and the walk ends.
        query = """
            WITH RECURSIVE branch AS (
                SELECT * FROM messages
                WHERE id = (SELECT max(id) FROM messages WHERE conversation_id = ?1)
                UNION ALL
                SELECT m.* FROM messages m JOIN branch b ON m.id = b.parent_id AND m.id < b.id
            )
            SELECT id, parent_id, role, content, state, created, model, facts
            FROM branch ORDER BY id
        """
        with translated(self._path):
            rows = self._db.execute(query, (conversation,)).fetchall()
        if not rows:
            raise HistoryError("history.gone", path=str(self._path))
        return [
            StoredMessage(
                id_, parent, role, content, state, _time(created), model, json.loads(facts)
            )
            for id_, parent, role, content, state, created, model, facts in rows
        ]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite has itself rolled back after some errors, e.g. a full disk.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _changed(self, cursor: sqlite3.Cursor) -> None:
        if cursor.rowcount == 0:
            raise HistoryError("history.gone", path=str(self._path))


def _inserted(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:
        raise RuntimeError("an INSERT gives an id")
    return cursor.lastrowid


def _storable(content: str) -> str:
    """Lone surrogates, which a JSON answer may hold, are no text."""
    return content.encode("utf-8", "replace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _time(stored: str) -> datetime:
    return datetime.fromisoformat(stored)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
