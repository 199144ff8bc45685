"""What the parts write down: every table, and the one way to a database.

Each once-only rule is a unique constraint. Transactions are serialisable: SQLite lets one writer in at a time, other
databases are asked for it. Tables whose order of arrival would tell something are kept in the order of their keys.
Codes and invitations are there as SHA-256 only. No table has an address, and only the authority's `members` is
about persons.
"""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from protocol.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

BUSY_SECONDS = 30

logging.getLogger("aiosqlite").setLevel(logging.INFO)  # what it says in debugging is what is written

authority = MetaData()
server = MetaData()

# --- authority ---

links = Table(
    "links",
    authority,
    Column("chain", String(16), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    UniqueConstraint("chain", "hash"),
)
"""The two chains: parameters and publications."""

invitations = Table(
    "invitations",
    authority,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
)

members = Table(
    "members",
    authority,
    Column("invitation", ForeignKey(invitations.c.hash), primary_key=True),
    Column("nonce", LargeBinary(32), unique=True, nullable=False),
    Column("public", LargeBinary(48), unique=True, nullable=False),
    Column("request", LargeBinary(32), nullable=False),
    Column("issued", LargeBinary, nullable=False),
)
"""Who joined: T, and the answer to give again to the very same request (its SHA-256)."""

proxies = Table(
    "proxies",
    authority,
    Column("name", String(32), primary_key=True),
    Column("group", String(32), nullable=False),
    Column("url", String(255), nullable=False),
    Column("public", LargeBinary(48), unique=True, nullable=False),
    Column("opening", LargeBinary(96), nullable=False),
    Column("removed", Boolean, nullable=False, default=False),
)
"""What group managers keep: each proxy's T and its opening key T~."""

invited = Table(
    "invited",
    authority,
    Column("name", String(32), primary_key=True),
    Column("group", String(32), nullable=False),
    Column("url", String(255), nullable=False),
    Column("nonce", LargeBinary(32), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
"""Proxies that were invited and have not been admitted yet."""

codes = Table(
    "codes",
    authority,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("onset", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("spent_by", LargeBinary(32), nullable=True),
)
"""Report codes; `spent_by`: the digest of the report that was accepted."""

reports = Table(
    "reports",
    authority,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("code", ForeignKey(codes.c.hash), nullable=False, index=True),
    Column("answer", LargeBinary, nullable=True),
)
"""Attempts at codes by the digest of what was sent; the sealed answer once there is one, never a second one."""

checks = Table(
    "checks",
    authority,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("contacts", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    Column("began_at", BigInteger, nullable=False),
)
"""Reports that are being checked, by a random number."""

reported = Table(
    "reported",
    authority,
    Column("nullifier", LargeBinary(48), primary_key=True),
    Column("day", Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    authority,
    Column("token", LargeBinary(16), primary_key=True),
    Column("day", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Waiting to be published."""

# --- server ---

submissions = Table(
    "submissions",
    server,
    Column("ccm", LargeBinary(32), primary_key=True),
    Column("nullifier", LargeBinary(48), primary_key=True),
    Column("day", Integer, nullable=False, index=True),
    Column("signed_day", Integer, nullable=True),
    sqlite_with_rowid=False,
)
"""`signed_day`: what a partial signature says, fixed once another nullifier stands for the CCM."""


class Database:
    """One part's database."""

    def __init__(self, url: str) -> None:
        sqlite = url.startswith("sqlite")
        options: dict[str, Any] = (
            {"connect_args": {"timeout": BUSY_SECONDS}, "pool_size": 1, "max_overflow": 0}
            if sqlite
            else {"isolation_level": "SERIALIZABLE"}
        )
        self._engine = create_async_engine(url, hide_parameters=True, **options)
        if sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_immediate)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One serialisable transaction: committed at the end, undone on an error.

        IntegrityError, which says that a once-only rule would break, passes through; all else becomes StorageError.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            why = error.orig if isinstance(error, DBAPIError) else type(error).__name__
            raise StorageError(f"the database does not work ({why}); make room or bring back a copy of it") from None

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Everything as it is at one moment, to be read for however long it takes; nobody who writes has to wait."""
        async with self._engine.connect() as connection:
            options = (
                {"reading": True} if connection.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
            )
            await connection.execution_options(**options)
            yield connection

    async def create(self, tables: MetaData) -> None:
        """Make the tables that are missing."""
        async with self.transaction() as connection:
            await connection.run_sync(tables.create_all)

    async def close(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()


@asynccontextmanager
async def opened(file: Path, tables: MetaData) -> AsyncIterator[Database]:
    """The SQLite database in this file, made private where it is not there yet. Raises StorageError."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise StorageError(f"the database {file} cannot be opened ({error.strerror})") from None
    database = Database(f"sqlite+aiosqlite:///{file}")
    try:
        await database.create(tables)
        yield database
    finally:
        await database.close()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself: _begin_immediate does
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    # A transaction that began by reading could not become a writer once another had written.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")
