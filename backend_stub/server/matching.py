"""How the two sides of a CCM find each other in the server's database, through any number of servers at once.

Each side is committed before the other sides are looked for. So of two that come in the same instant through two
servers, whoever looks last sees both, and marks both as signed; the other is signed when it is asked for again.
No lock is held between statements, which a server that hangs could keep, and no transaction is ever undone for
another: with SERIALIZABLE most would be in a small database, where random CCMs are neighbours in the index. Rows are
written in the order of their keys, so that no two servers wait for each other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, exists, func, select, update

from backend_stub.server import quota
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol.errors import QuotaRefused, Refused, SpotError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.server.quota import Use
    from backend_stub.storage.database import Database
    from protocol.messages import Limits

table = tables.submissions

TICKET_TAKEN = QuotaRefused("this ticket was used for another contact; it will be submitted again on another one")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a submission says: this nullifier stands for this CCM, on this day. use: the ticket that it takes up."""

    ccm: bytes
    nullifier: bytes
    day: int
    use: Use


@dataclass(frozen=True, slots=True)
class Side:
    """One nullifier that stands for a CCM: its day, and whether it is signed since there was another side."""

    day: int
    signed: bool


Sides = dict[bytes, dict[bytes, Side]]
"""The sides of each CCM, by nullifier."""

Result = bool | SpotError
"""Whether a submission is to be signed, as there is another side; or why it is refused."""


async def match(database: Database, asked: Sequence[Entry], first_day: int, last_day: int) -> list[Result]:
    """Record these entries, and see which are matched.

    first_day, last_day: of entries that are seen for the first time. Raises Unreachable or StorageError.
    """

    async def enter(connection: AsyncConnection) -> set[Use]:
        taken = await quota.spend(connection, [one.use for one in asked])
        await _enter(connection, [one for one in asked if one.use in taken], range(first_day, last_day + 1))
        return taken

    async def look(connection: AsyncConnection) -> Sides:
        return await _mark(connection, {one.ccm for one in asked})

    taken = await database.run(enter)
    sides = await database.run(look)
    return [_result(one, sides[one.ccm].get(one.nullifier)) if one.use in taken else TICKET_TAKEN for one in asked]


async def forget(database: Database, today: int, limits: Limits) -> None:
    """Delete the sides past the retention, and before that those that have no other side and can get none any more."""
    for signed in (False, True):
        await database.forget(table, table.c.signed.is_(signed), table.c.day < today - limits.retention_days)
    other = table.alias()
    this = (other.c.ccm == table.c.ccm, other.c.nullifier != table.c.nullifier)
    near = exists().where(*this, func.abs(other.c.day - table.c.day) <= 1).correlate(table)
    # Another side's day may be a day later, and it may come for the first time until so many days after that.
    last_day = today - limits.first_seen_days - 1
    await database.forget(table, table.c.signed.is_(False), table.c.day < last_day, ~near)


def _result(one: Entry, side: Side | None) -> Result:
    if side is None:
        return Refused("this contact's day is too long ago or in the future; check the device's clock")
    if side.day != one.day:
        return Refused("this contact was submitted for another day before; keep to that day")
    return side.signed


async def _enter(connection: AsyncConnection, asked: Sequence[Entry], days: range) -> None:
    known = await _look(connection, {one.ccm for one in asked})
    fresh: dict[tuple[bytes, bytes], int] = {}
    for one in asked:
        if one.nullifier not in known[one.ccm] and one.day in days:
            fresh.setdefault((one.ccm, one.nullifier), one.day)
    if fresh:
        rows = [{"ccm": ccm, "nullifier": name, "day": day} for (ccm, name), day in sorted(fresh.items())]
        await connection.execute(db.new(table, connection), rows)


async def _mark(connection: AsyncConnection, ccms: Collection[bytes]) -> Sides:
    sides = await _look(connection, ccms)
    matched = [(ccm, name) for ccm in sorted(sides) for name in sorted(newly_matched(sides[ccm]))]
    if matched:
        this = (table.c.ccm == bindparam("of_ccm"), table.c.nullifier == bindparam("of_nullifier"))
        rows = [{"of_ccm": ccm, "of_nullifier": name} for ccm, name in matched]
        await connection.execute(update(table).where(*this).values(signed=True), rows)
    for ccm, name in matched:
        sides[ccm][name] = replace(sides[ccm][name], signed=True)
    return sides


def newly_matched(sides: Mapping[bytes, Side]) -> list[bytes]:
    """The nullifiers of those sides that are not signed yet and do have another side, of a day at most one apart."""
    # Each is signed for its own day: nobody else, who may have seen the CCM, can move the day of an honest side.
    return [
        name
        for name, side in sides.items()
        if not side.signed and any(other != name and abs(one.day - side.day) <= 1 for other, one in sides.items())
    ]


async def _look(connection: AsyncConnection, ccms: Collection[bytes]) -> Sides:
    found: Sides = defaultdict(dict)
    for row in await connection.execute(select(table).where(table.c.ccm.in_(db.padded(ccms)))):
        found[row.ccm][row.nullifier] = Side(row.day, row.signed)
    return found
