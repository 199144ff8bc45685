"""A user's quota: each submission takes up a ticket of its sender's day, and a ticket serves one contact only.

So whoever is registered gets no more than so many sides a day into the database, whatever program they run. A ticket's
nullifier says nothing about whose it is, or which other tickets are the same user's.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import contact
from protocol.encounter import day_of
from protocol.errors import QuotaRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.storage.database import Database
    from protocol.errors import SpotError
    from protocol.messages import Limits, Submission

table = tables.tickets

SIZE = 16
"""Bytes of a hash: to use a ticket twice takes two CCMs with the same one, 2^64 trials."""
DAYS_OFF = 1  # that a sender's day may be from the server's: around midnight, and for clocks that are wrong


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """A ticket in use for a contact: the day it is of, and hashes of its nullifier and of the CCM."""

    day: int
    nullifier: bytes
    ccm: bytes


def use_of(one: Submission) -> Use:
    """The ticket that this submission takes up."""
    return Use(one.sent_day, _short(contact.nullifiers_of(one)[1]), _short(one.ccm))


def _short(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:SIZE]


def misdated(submissions: Sequence[Submission], today: int) -> dict[int, SpotError]:
    """Those that are not of a ticket of these days, by their index."""
    error = QuotaRefused("this was not submitted for today; check the device's clock, it will be submitted again")
    return {index: error for index, one in enumerate(submissions) if abs(one.sent_day - today) > DAYS_OFF}


async def spend(connection: AsyncConnection, uses: Collection[Use]) -> set[Use]:
    """Take these tickets, each for the contact that comes first. Those in use for another one are left out."""
    # Whoever takes the same ticket at the same time waits here for the other's transaction, and then sees what it took.
    rows = [asdict(use) for use in sorted(set(uses))]
    await connection.execute(db.new(table, connection), rows)
    days, nullifiers = {use.day for use in uses}, db.padded({use.nullifier for use in uses})
    found = await connection.execute(select(table).where(table.c.day.in_(days), table.c.nullifier.in_(nullifiers)))
    return {Use(row.day, row.nullifier, row.ccm) for row in found} & set(uses)


async def forget(database: Database, now: float, limits: Limits) -> None:
    """Delete the tickets of days that no server takes submissions for any more."""
    await database.forget(table, table.c.day < day_of(now - limits.clock_tolerance) - DAYS_OFF)
