"""How the two sides of a CCM find each other in the server's database, through any number of servers at once.

Each side is committed before the other sides are looked for. So of two that come in the same instant through two
servers, whoever looks last sees both, and fixes the signed day of both; the other is signed when it is asked for again.
No lock is held between statements, which a server that hangs could keep, and no transaction is ever undone for
another: with SERIALIZABLE most would be in a small database, where random CCMs are neighbours in the index. Rows are
written in the order of their keys, so that no two servers wait for each other; a signed day is written only where
there is none, so that the first that was committed stands.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.storage.database import Database

table = tables.submissions


@dataclass(frozen=True, slots=True)
class Entry:
    """What a submission says: this nullifier stands for this CCM, on this day."""

    ccm: bytes
    nullifier: bytes
    day: int


@dataclass(frozen=True, slots=True)
class Side:
    """One nullifier that stands for a CCM: its day, and the day it is signed for once there is another side."""

    day: int
    signed_day: int | None


Sides = dict[bytes, dict[bytes, Side]]
"""The sides of each CCM, by nullifier."""


async def match(
    database: Database, asked: Sequence[Entry], first_day: int, last_day: int
) -> list[int | Refused | None]:
    """Record these entries. For each the day to sign, None while there is no other side, or why it is refused.

    first_day, last_day: of entries that are seen for the first time. Raises Unreachable or StorageError.
    """

    async def enter(connection: AsyncConnection) -> None:
        await _enter(connection, asked, range(first_day, last_day + 1))

    async def look(connection: AsyncConnection) -> Sides:
        return await _fix(connection, {one.ccm for one in asked})

    await database.run(enter)
    sides = await database.run(look)
    return [_result(one, sides[one.ccm].get(one.nullifier)) for one in asked]


def _result(one: Entry, side: Side | None) -> int | Refused | None:
    if side is None:
        return Refused("this contact's day is too long ago or in the future; check the device's clock")
    if side.day != one.day:
        return Refused("this contact was submitted for another day before; keep to that day")
    return side.signed_day


async def _enter(connection: AsyncConnection, asked: Sequence[Entry], days: range) -> None:
    known = await _look(connection, {one.ccm for one in asked})
    fresh: dict[tuple[bytes, bytes], int] = {}
    for one in asked:
        if one.nullifier not in known[one.ccm] and one.day in days:
            fresh.setdefault((one.ccm, one.nullifier), one.day)
    if fresh:
        rows = [{"ccm": ccm, "nullifier": name, "day": day} for (ccm, name), day in sorted(fresh.items())]
        await connection.execute(db.new(table, connection), rows)


async def _fix(connection: AsyncConnection, ccms: Collection[bytes]) -> Sides:
    sides = await _look(connection, ccms)
    fixes = {ccm: fixed for ccm in sorted(sides) if (fixed := fixed_days(sides[ccm]))}
    if fixes:
        this = (table.c.ccm == bindparam("of_ccm"), table.c.nullifier == bindparam("of_nullifier"))
        rows = [
            {"of_ccm": ccm, "of_nullifier": name, "to": day}
            for ccm, fixed in fixes.items()
            for name, day in sorted(fixed.items())
        ]
        unsigned = update(table).where(*this, table.c.signed_day.is_(None))
        await connection.execute(unsigned.values(signed_day=bindparam("to")), rows)
        sides |= await _look(connection, fixes)  # what another server fixed meanwhile stands
    return sides


def fixed_days(sides: Mapping[bytes, Side]) -> dict[bytes, int]:
    """The days to sign, by nullifier, for those sides that have none and do have another side."""
    # Two sides get the smaller of their days. It is fixed for each side and not for the CCM, so that a third
    # nullifier, of somebody who saw the CCM, cannot move the day away from the true other side.
    fixed = {}
    for name, side in sides.items():
        near = [one.day for other, one in sides.items() if other != name and abs(one.day - side.day) <= 1]
        if near and side.signed_day is None:
            fixed[name] = min(side.day, *near)
    return fixed


async def _look(connection: AsyncConnection, ccms: Collection[bytes]) -> Sides:
    found: Sides = defaultdict(dict)
    for row in await connection.execute(select(table).where(table.c.ccm.in_(_padded(ccms)))):
        found[row.ccm][row.nullifier] = Side(row.day, row.signed_day)
    return found


def _padded(ccms: Collection[bytes]) -> list[bytes]:
    # To the next power of two, so that there are few different statements to prepare.
    listed = sorted(ccms)
    return listed + listed[-1:] * ((1 << (len(listed) - 1).bit_length()) - len(listed) if listed else 0)
