"""How far reports under way are checked, for the operator: numbers of contacts, and nothing about who declares."""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update

from backend_stub.storage import database as db
from backend_stub.storage import tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority
    from backend_stub.storage.database import Database

log = logging.getLogger(__name__)

STALE = 3600.0  # s after which a check that never ended is that of a process that was killed
LOG_EVERY = 2.0  # real seconds


class Progress:
    """One report's."""

    def __init__(self, database: Database, number: int, contacts: int) -> None:
        self._database = database
        self._number = number
        self._contacts = contacts
        self._checked = 0
        self._began = self._said = time.monotonic()

    async def advance(self, contacts: int) -> None:
        """So many more are checked."""
        self._checked += contacts
        this = tables.checks.c.number == self._number
        further = update(tables.checks).where(this).values(checked=self._checked)
        await self._database.run(lambda connection: connection.execute(further))
        if time.monotonic() - self._said > LOG_EVERY:
            self._said = time.monotonic()
            log.info("a report is under way: %d of %d contacts are checked", self._checked, self._contacts)

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self._began
        log.info("%d contacts of a report of %d were checked in %.1f s", self._checked, self._contacts, seconds)


@asynccontextmanager
async def shown(authority: Authority, contacts: int) -> AsyncIterator[Progress]:
    """Show the operator that a report of so many contacts is being checked."""
    number = int.from_bytes(authority.random(6), "big")
    row = {"number": number, "contacts": contacts, "checked": 0, "began_at": int(authority.clock.now())}
    await authority.database.run(lambda connection: connection.execute(db.new(tables.checks, connection), row))
    progress = Progress(authority.database, number, contacts)
    try:
        yield progress
    finally:
        progress.end()
        over = delete(tables.checks).where(tables.checks.c.number == number)
        await authority.database.run(lambda connection: connection.execute(over))


async def under_way(connection: AsyncConnection, now: float) -> dict[str, int]:
    """How many reports are being checked, and how many of their contacts are."""
    checks = tables.checks.c
    numbers = select(
        func.count(), func.coalesce(func.sum(checks.contacts), 0), func.coalesce(func.sum(checks.checked), 0)
    ).where(checks.began_at > now - STALE)
    reports, contacts, checked = (await connection.execute(numbers)).one()
    return {
        "reports_under_way": int(reports),
        "contacts_under_way": int(contacts),
        "contacts_checked": int(checked),
    }
