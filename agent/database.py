"""The sealed file below the store: a SQLCipher database, opened, copied under another key, and grown in steps.

What is in it cannot be read without its key, but its size can be seen: it would tell how many peers were near in two
weeks. So it grows by four megabytes at once, with room for the two weeks of most people in the first step.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from sqlcipher3 import dbapi2 as sqlcipher

from protocol.errors import Busy, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUSY_SECONDS = 15.0
MAKING_LOCK = "store.lock"
STEP = 1024
"""Pages of 4 KiB that the file grows by."""

PAYLOAD = 4012  # bytes of a blob in a page of 4096, of which SQLCipher takes 80 and SQLite 4


def connect(path: Path, key: bytes, steps: Sequence[str]) -> Any:
    """A connection to the database, brought to the newest version by the steps it lacks. Raises StorageError, Busy.

    steps: the SQL that makes each version of the one before, the first one out of nothing
    """
    with translated(path.parent):
        connection = sqlcipher.connect(str(path), timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path.parent, key, steps)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: Any, folder: Path, key: bytes, steps: Sequence[str]) -> None:
    connection.execute("PRAGMA cipher_log_level = NONE")  # what is wrong is told in a line of our own
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    connection.execute("PRAGMA temp_store = MEMORY")  # a temporary file would be in clear
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    found = _value(connection, "user_version")  # the first read shows whether the key fits
    if found > len(steps):
        raise StorageError(f"the store in {folder} has version {found}, this program knows {len(steps)}: update it")
    connection.execute("PRAGMA synchronous = NORMAL")
    if found < len(steps):
        # Two processes at once: SQLite does not wait for the other where the journal's kind is changed.
        with FileLock(folder / MAKING_LOCK, timeout=BUSY_SECONDS, mode=0o600):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for step in steps[_value(connection, "user_version") :]:
                for statement in step.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(steps)}")
            round_up(connection)
            connection.execute("COMMIT")


def round_up(connection: Any) -> None:
    """Within a transaction: have the file end on a step; what is not needed yet is free for what comes."""
    if missing := -_value(connection, "page_count") % STEP:
        pages = _value(connection, "freelist_count") + missing  # the free ones are taken first
        connection.execute("CREATE TABLE filler (zeros BLOB)")  # takes the first page
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", [(pages - 1) * PAYLOAD])
        connection.execute("DROP TABLE filler")


def copy(connection: Any, path: Path, key: bytes) -> None:
    """Everything in a new file, sealed under another key. Raises StorageError."""
    with translated(path.parent):
        path.touch(mode=0o600, exist_ok=False)
        connection.execute("ATTACH ? AS copy KEY ?", [str(path), f"x'{key.hex()}'"])
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("SELECT sqlcipher_export('copy')")
                connection.execute(f"PRAGMA copy.user_version = {_value(connection, 'user_version')}")
            finally:
                connection.execute("COMMIT")
            connection.execute("PRAGMA copy.journal_mode = WAL")
        finally:
            connection.execute("DETACH copy")


def check(connection: Any, folder: Path) -> None:
    """Read every page. Raises StorageError where one is damaged."""
    with translated(folder):
        if (
            connection.execute("PRAGMA cipher_integrity_check").fetchall()
            or _value(connection, "integrity_check") != "ok"
        ):
            raise damaged(folder)


def _value(connection: Any, pragma: str) -> Any:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def damaged(folder: Path) -> StorageError:
    """What to say of a file that cannot be read."""
    return StorageError(
        f"the store in {folder} cannot be opened with its key, or is damaged; put folder and key back from a "
        "backup, or start anew with: spot leave"
    )


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """The library's errors as the agent's."""
    try:
        yield
    except (sqlcipher.DatabaseError, sqlite3.DatabaseError) as error:
        text = str(error)
        if "full" in text:
            raise StorageError("the disk is full: nothing was lost, nothing new is kept; free some space") from None
        if "locked" in text or "busy" in text:
            raise Busy("the store is in use by another process for too long; try again") from None
        if "not a database" in text or "malformed" in text or "disk image" in text:
            raise damaged(folder) from None
        raise StorageError(
            f"the store in {folder} cannot be used ({text}); check the disk and its permissions"
        ) from None
