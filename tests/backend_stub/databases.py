"""Databases for tests: one of each kind, opened as often as there are processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from backend_stub.storage import database as db
from backend_stub.storage import tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backend_stub.storage.database import Database

KINDS = ("sqlite", "postgresql")


@asynccontextmanager
async def several(file: Path, url: str, count: int = 2) -> AsyncIterator[list[Database]]:
    """The server's database, empty, as so many processes see it that start at once."""
    async with AsyncExitStack() as stack:
        opening = (stack.enter_async_context(db.opened(file, tables.SERVER, url)) for _ in range(count))
        opened = await asyncio.gather(*opening)
        await opened[0].run(lambda connection: connection.execute(delete(tables.submissions)))
        yield opened


async def kept(database: Database) -> dict[tuple[bytes, bytes], tuple[int, bool]]:
    """Day of each side and whether it is signed, by CCM and nullifier."""
    rows = await database.run(lambda connection: connection.execute(select(tables.submissions)))
    return {(row.ccm, row.nullifier): (row.day, row.signed) for row in rows}
