"""The database file: how it is opened, its tables, and how an older one is brought up to date.

The version of the schema is SQLite's own `user_version`. `MIGRATIONS[n]` brings version n to n + 1; a released
migration is never edited, the next one is appended.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE bindings (aor TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, expires REAL NOT NULL,"
        " PRIMARY KEY (aor, key)) WITHOUT ROWID",
        "CREATE TABLE dialogs (id TEXT PRIMARY KEY NOT NULL, data TEXT NOT NULL, updated REAL NOT NULL) WITHOUT ROWID",
        "CREATE TABLE memory (entry TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
        " PRIMARY KEY (entry, key)) WITHOUT ROWID",
        "CREATE TABLE calls (id INTEGER PRIMARY KEY AUTOINCREMENT, call_id TEXT NOT NULL, data TEXT NOT NULL,"
        " started REAL NOT NULL, ended REAL)",
        "CREATE INDEX calls_by_call_id ON calls (call_id)",
    ),
)

BUSY_SECONDS = 5.0


class StoreError(Exception):
    """The database cannot be used; the text says what is wrong and how to mend it."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection set up as all of ours are. Raises StoreError where the file is not a database that can be used.

    synchronous=NORMAL: a commit is in the write-ahead log, in the kernel's page cache, before it returns. That survives
    the death of this
    process (kill -9). Only the machine losing power may take the last commits, never the consistency; FULL would cost
    an fsync a commit.
    """
    try:
        # Generated credentials lie in here; SQLite gives the -wal and -shm files the mode of the main one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # Transactions are begun and ended by hand: the writer decides how many writes share one.
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: cannot be opened: {error}: check that data_dir exists and may be written") from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_size_limit=16777216")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(
            f"{path}: {error}: move the file away to start with an empty one, or restore a backup"
        ) from error
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, all steps in one transaction. Raises StoreError for a file of a newer program."""
    newest = len(MIGRATIONS)
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > newest:
                raise StoreError(
                    f"{path}: was written by a newer version (schema {version}, this one knows {newest}): upgrade"
                )
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={newest}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise StoreError(f"{path}: the schema cannot be brought up to date: {error}") from error
