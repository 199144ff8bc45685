"""The one way to a part's database, SQLite or PostgreSQL: transactions that are done whole, again where need be.

SQLite lets one writer in at a time, so its transactions are serialisable. PostgreSQL is asked for what the part needs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sqlite3
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
from sqlalchemy import delete, event, func, insert, literal_column, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import create_async_engine

from backend_stub.storage import schema
from protocol.errors import Misuse, SpotError, StorageError, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection
    from pathlib import Path

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from backend_stub.storage.tables import Part

log = logging.getLogger(__name__)
logging.getLogger("aiosqlite").setLevel(logging.INFO)  # what it says in debugging is what is written

PATIENCE = 20.0  # s that a transaction is tried again for: a PostgreSQL that is upgraded is back by then
PAUSE_FIRST, PAUSE_LAST = 0.02, 1.0  # s between two tries, each drawn from the upper half
TAKEN_TRIES = 3  # so often may a once-only rule be in the way: the other one may have come in between
LOG_LIMIT = f"journal_size_limit = {1 << 22}"  # bytes of what SQLite keeps of a burst
BUSY_SECONDS = 1.0  # for another writer of SQLite, a try
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 30.0
SLOW_SECONDS = 3600.0  # for a statement that reads or writes a whole table
CONNECTIONS = 10  # of one process to PostgreSQL
SLICE = 1000  # rows deleted in one transaction
# PostgreSQL's states that pass: connection lost, serialisation, deadlock, too many connections, a lock waited for too
# long, shutting down or starting up, and a standby that is about to take over.
PASSING_CLASSES = ("08",)
PASSING_STATES = {"40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "25006"}
# Without a state: connection refused, broken, silent for too long, or gone in the middle of a message.
LOST = (OSError, NoConnection, asyncpg.InterfaceError, asyncpg.InternalClientError)
SHUT = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
OUTSIDE = (SQLAlchemyError, asyncpg.PostgresError, *LOST)

T = TypeVar("T")


class Taken(StorageError):
    """A once-only rule would break: something with one of these keys is there already."""


class Database:
    """One part's database."""

    def __init__(
        self, engine: AsyncEngine, part: Part, patience: float = PATIENCE, slow: AsyncEngine | None = None
    ) -> None:
        self._engine = engine
        self._slow = slow or engine  # for what takes long where there is much
        self._part = part
        self._patience = patience
        self.took: Callable[[float], None] = lambda _seconds: None  # is told how long each transaction lasted

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        began = time.monotonic()
        try:
            async with self._engine.begin() as connection:
                yield connection
        finally:
            self.took(time.monotonic() - began)

    async def run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What this work returns, done in one transaction: committed at its end, undone on an error.

        It is done anew where the database was busy, away, or let another transaction go first, so it may do nothing
        to what is outside the database that it must not do twice; and it may have been done although the connection
        broke before that was said. Raises Taken, Unreachable when patience is at its end, or StorageError.
        """
        until = asyncio.get_running_loop().time() + self._patience
        tried = 0
        while True:
            try:
                async with self._begin() as connection:
                    return await work(connection)
            except OUTSIDE as error:
                trouble = _read(error)
            tried += 1
            passes = isinstance(trouble, Unreachable) or (isinstance(trouble, Taken) and tried < TAKEN_TRIES)
            if not passes or asyncio.get_running_loop().time() > until:
                raise trouble
            log.debug("a transaction is tried again: %s", trouble)
            pause = min(PAUSE_LAST, PAUSE_FIRST * 2**tried)
            await asyncio.sleep(secrets.SystemRandom().uniform(pause / 2, pause))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that is done once: committed at the end, undone on an error. Raises as `run` does."""
        try:
            async with self._begin() as connection:
                yield connection
        except OUTSIDE as error:
            raise _read(error) from None

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Everything as it is at one moment, to be read for however long it takes; nobody who writes has to wait."""
        try:
            async with self._slow.connect() as connection:
                options = (
                    {"reading": True} if connection.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
                )
                await connection.execution_options(**options)
                yield connection
        except OUTSIDE as error:
            raise _read(error) from None

    async def forget(self, table: Table, *where: ColumnElement[bool]) -> int:
        """Delete the rows for which this holds, some at a time, so that nobody waits for long. How many there were."""
        key = tuple_(*table.primary_key.columns)
        # Rows that somebody works on come next time: to wait for them could be a deadlock.
        some = select(*table.primary_key.columns).where(*where).limit(SLICE).with_for_update(skip_locked=True)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(table).where(key.in_(some)))).rowcount

        count = 0
        while (gone := await self.run(work)) > 0:
            count += gone
        return count

    async def settle(self, *mixed: Table) -> None:
        """Leave no trace in the files of what was forgotten, nor of which rows of these tables came together.

        For what is written ahead by SQLite, and for PostgreSQL's numbers of transactions and dead rows; what is in its
        archives stays. Where somebody is reading what is old, it is for the next time. Raises as `run` does.
        """
        if self._engine.dialect.name == "sqlite":
            await self._outside(self._engine, "PRAGMA wal_checkpoint(TRUNCATE)")
            return
        for table in mixed:
            await Database(self._slow, self._part, self._patience).run(partial(_write_anew, table=table))
            await self._outside(self._slow, f"VACUUM {table.name}")

    async def _outside(self, engine: AsyncEngine, statement: str) -> None:
        """Outside any transaction."""
        try:
            async with engine.connect() as connection:
                raw = await connection.get_raw_connection()
                done = await cast("Any", raw.driver_connection).execute(statement)
                if engine.dialect.name == "sqlite":
                    await done.close()  # of what it says, nothing is wanted: it is done again the next time
        except OUTSIDE as error:
            raise _read(error) from None

    async def prepare(self) -> None:
        """Make the tables, or bring those of an older program up to date. Raises StorageError."""
        # Whoever waited for another process that did it must see what that one did.
        engine = self._engine
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(isolation_level="READ COMMITTED")

        async def work(connection: AsyncConnection) -> None:
            await connection.run_sync(schema.prepare, self._part)

        await Database(engine, self._part, self._patience).run(work)

    async def close(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()
        await self._slow.dispose()


@asynccontextmanager
async def opened(file: Path, part: Part, url: str = "", patience: float = PATIENCE) -> AsyncIterator[Database]:
    """The part's database: PostgreSQL at this URL, or else SQLite in this file, made private where it is not there yet.

    Its tables are made or brought up to date. patience: s for which a database that is away is waited for. Raises
    Misuse, StorageError or Unreachable.
    """
    engine = _postgres(url, part, COMMAND_SECONDS) if url else _sqlite(file)
    database = Database(engine, part, patience, _postgres(url, part, SLOW_SECONDS) if url else None)
    try:
        await database.prepare()
        yield database
    finally:
        await database.close()


def new(table: Table, connection: AsyncConnection) -> postgresql.Insert | sqlite.Insert:
    """An insert that leaves out rows of which a unique key is there already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def padded(keys: Collection[bytes]) -> list[bytes]:
    """These keys for an IN, up to the next power of two, so that there are few different statements to prepare."""
    listed = sorted(keys)
    return listed + listed[-1:] * ((1 << (len(listed) - 1).bit_length()) - len(listed) if listed else 0)


async def _write_anew(connection: AsyncConnection, table: Table) -> None:
    """All rows again, by one transaction and in the order of their keys; unless one wrote them all."""
    writers = select(literal_column("xmin::text")).select_from(table).distinct().subquery()
    if (await connection.scalar(select(func.count()).select_from(writers)) or 0) > 1:
        # Not TRUNCATE: who took a snapshot before would find the table empty.
        gone = delete(table).returning(*table.columns).cte("gone")
        in_order = select(gone).order_by(*(gone.c[column.name] for column in table.primary_key.columns))
        await connection.execute(insert(table).from_select(list(table.columns), in_order))


# --- engines ---


def _sqlite(file: Path) -> AsyncEngine:
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise StorageError(f"the database {file} cannot be opened ({error.strerror})") from None
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file}",
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS},
        pool_size=1,
        max_overflow=0,
        pool_timeout=COMMAND_SECONDS,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself: _begin_immediate does
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON", LOG_LIMIT):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    # A transaction that began by reading could not become a writer once another had written.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")


def _postgres(url: str, part: Part, seconds: float) -> AsyncEngine:
    """seconds: for one statement."""
    settings = {
        "search_path": part.name,
        "application_name": f"spot {part.name}",
        # What a process that hangs has locked is free again in time.
        "idle_in_transaction_session_timeout": f"{seconds:.0f}s",
        "lock_timeout": f"{COMMAND_SECONDS / 2:.0f}s",
    }

    async def connect() -> asyncpg.Connection:
        # asyncpg reads the URL itself: all that libpq knows may be in it, and PGPASSWORD and PGPASSFILE count.
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=seconds, server_settings=settings)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        hide_parameters=True,
        isolation_level=part.isolation,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=COMMAND_SECONDS,
        pool_pre_ping=True,
    )


# --- errors ---


def _read(error: Exception) -> SpotError:
    """What an error of a driver means: Unreachable if it passes. PostgreSQL's texts may quote what is stored."""
    if isinstance(error, IntegrityError):
        return Taken("something with one of these keys is there already, or still needed; try again")
    cause = error.orig if isinstance(error, DBAPIError) else error
    cause = getattr(cause, "__cause__", None) or cause  # the driver's own, under SQLAlchemy's
    if isinstance(cause, SHUT):
        return Misuse(f"the database lets us not in ({_name(cause)}); mend `database` in settings.toml or the password")
    if isinstance(cause, asyncpg.exceptions.ClientConfigurationError):
        return Misuse("the database's URL makes no sense; mend `database` in settings.toml")
    if _passes(cause):
        return Unreachable("the database is away or busy; try again later, or see whether it runs")
    return StorageError(f"the database does not work ({_name(cause)}); make room or bring back a copy of it")


def _passes(cause: BaseException | None) -> bool:
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(cause, "sqlstate", None)
    if state:
        return state in PASSING_STATES or state.startswith(PASSING_CLASSES)
    return isinstance(cause, LOST)


def _name(cause: BaseException | None) -> str:
    if isinstance(cause, sqlite3.Error):
        return str(cause)
    return f"{type(cause).__name__} {getattr(cause, 'sqlstate', None) or ''}".strip()
