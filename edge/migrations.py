"""The shape of the conversations' database, as numbered steps that are only ever added to.

`user_version` in the file says how many of them it has seen. A step that has
shipped is never changed: a mend is a new step. The program before a step does not read what it has
changed: on a board, where an update may be taken back, a second step has to wait for the end of
that trial.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

__all__ = ["MIGRATIONS", "migrate"]


def _conversations_and_messages(db: sqlite3.Connection) -> None:
    # AUTOINCREMENT: an id is never given twice. Otherwise a chat that still holds
    # the id of a conversation deleted elsewhere would write into its successor.
    db.execute(
        """
        CREATE TABLE conversations (
            id      INTEGER PRIMARY KEY AUTOINCREMENT,
            title   TEXT NOT NULL,
            created TEXT NOT NULL CHECK (julianday(created) IS NOT NULL)
        ) STRICT
        """
    )
    # The checks are verified by quick_check each time the file is opened.
    # A message knows the one it follows, so a conversation is a tree: two answers
    # to one question share a parent.
    db.execute(
        """
        CREATE TABLE messages (
            id              INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation_id INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
            parent_id       INTEGER REFERENCES messages (id) ON DELETE CASCADE,
            role            TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
            content         TEXT NOT NULL,
            state           TEXT NOT NULL
                            CHECK (state IN ('complete', 'writing', 'stopped', 'failed')),
            created         TEXT NOT NULL CHECK (julianday(created) IS NOT NULL),
            model           TEXT,
            facts           TEXT NOT NULL CHECK (json_valid(facts))
        ) STRICT
        """
    )
    db.execute("CREATE INDEX messages_of ON messages (conversation_id, id)")
    db.execute("CREATE INDEX messages_after ON messages (parent_id)")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_conversations_and_messages,)
"""Step n takes a database from `user_version` n to n + 1."""


def migrate(db: sqlite3.Connection) -> None:
    """Take `db` (in autocommit mode) to the newest shape, all steps or none.

    The write lock is taken before the version is read, so of two processes that
    open a new database at once the second finds the work done.

    Raises:
        sqlite3.Error: the file cannot be written, or is damaged.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for step in MIGRATIONS[version:]:
            step(db)
        if version < len(MIGRATIONS):
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
