"""Databases for tests: one of each kind, opened as often as there are processes."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from backend_stub.server.matching import Entry
from backend_stub.server.quota import SIZE, Use
from backend_stub.storage import database as db
from backend_stub.storage import tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backend_stub.storage.database import Database

KINDS = ("sqlite", "postgresql")


def entry(ccm: bytes, nullifier: bytes, day: int) -> Entry:
    """This, on a ticket that nobody has used."""
    return Entry(ccm, nullifier, day, Use(day, secrets.token_bytes(SIZE), ccm[:SIZE]))


@asynccontextmanager
async def several(file: Path, url: str, count: int = 2) -> AsyncIterator[list[Database]]:
    """The server's database, empty, as so many processes see it that start at once."""
    async with AsyncExitStack() as stack:
        opening = (stack.enter_async_context(db.opened(file, tables.SERVER, url)) for _ in range(count))
        opened = await asyncio.gather(*opening)
        for table in (tables.submissions, tables.tickets):
            await opened[0].run(partial(AsyncConnection.execute, statement=delete(table)))
        yield opened


async def kept_tickets(database: Database) -> dict[tuple[int, bytes], bytes]:
    """The CCM that each ticket serves, by its day and nullifier, as hashes."""
    rows = await database.run(lambda connection: connection.execute(select(tables.tickets)))
    return {(row.day, row.nullifier): row.ccm for row in rows}


async def kept(database: Database) -> dict[tuple[bytes, bytes], tuple[int, bool]]:
    """Day of each side and whether it is signed, by CCM and nullifier."""
    rows = await database.run(lambda connection: connection.execute(select(tables.submissions)))
    return {(row.ccm, row.nullifier): (row.day, row.signed) for row in rows}
