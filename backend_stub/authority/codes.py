"""Report codes and invitations that were handed out: listed by a reference, and withdrawn.

Only hashes of them are kept, so none can be shown again. A reference is the beginning of that hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from backend_stub.authority.join import hash_of
from backend_stub.authority.report import ATTEMPTS
from backend_stub.storage import tables
from protocol import declaration
from protocol.errors import Malformed, Misuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority

REFERENCE_LENGTH = 8  # hexadecimal digits

OPEN, USED, OVER = "open", "used", "over"


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A code or invitation. expires_at: s since 1970; state: `open`, `used`, or `over` (expired or withdrawn).

    Of codes only: onset, the day; attempts, how many different reports were tried with it.
    """

    reference: str
    expires_at: int
    state: str
    onset: int = 0
    attempts: int = 0


def reference_of(code: str) -> str:
    """The reference of a code or invitation as it was handed out. Raises Malformed."""
    return _reference(hash_of(declaration.normal_code(code)))


def _reference(hash_: bytes) -> str:
    return hash_.hex()[:REFERENCE_LENGTH]


async def codes(authority: Authority) -> list[HandedOut]:
    """All report codes that are kept, the first to expire first."""
    now = authority.clock.now()
    return [_code(row, now) for row in await authority.database.run(_code_rows)]


async def invitations(authority: Authority) -> list[HandedOut]:
    """All invitations that are kept, the first to expire first."""
    now = authority.clock.now()
    return [_invitation(row, now) for row in await authority.database.run(_invitation_rows)]


async def withdraw_code(authority: Authority, which: str) -> HandedOut:
    """Withdraw a report code, named by itself or its reference. Raises Misuse."""
    return await _withdraw(authority, tables.codes, _code, which)


async def withdraw_invitation(authority: Authority, which: str) -> HandedOut:
    """Withdraw an invitation, named by itself or its reference. Raises Misuse."""
    return await _withdraw(authority, tables.invitations, _invitation, which)


async def _withdraw(
    authority: Authority, table: Table, read: Callable[[Row[Any], float], HandedOut], which: str
) -> HandedOut:
    reference, now = _wanted(which), authority.clock.now()

    async def work(connection: AsyncConnection) -> HandedOut:
        rows = await (_code_rows if table is tables.codes else _invitation_rows)(connection)
        found = [row for row in rows if _reference(row.hash) == reference]
        if len(found) != 1:
            raise Misuse(f"none is known by {reference!r}, or several are; look at the list for its reference")
        if read(found[0], now).state != OPEN:
            raise Misuse(f"{reference} was used or is over already; there is nothing to withdraw")
        this = table.c.hash == found[0].hash
        await connection.execute(update(table).where(this).values(expires_at=int(now) - 1))
        return read(found[0], now)

    return await authority.database.run(work)


def _wanted(which: str) -> str:
    try:
        return reference_of(which)
    except Malformed:
        return which.strip().lower()


async def _code_rows(connection: AsyncConnection) -> list[Row[Any]]:
    tried = (
        select(func.count()).select_from(tables.reports).where(tables.reports.c.code == tables.codes.c.hash)
    ).scalar_subquery()
    wanted = select(tables.codes, tried.label("tried")).order_by(tables.codes.c.expires_at, tables.codes.c.hash)
    return list((await connection.execute(wanted)).all())


async def _invitation_rows(connection: AsyncConnection) -> list[Row[Any]]:
    used = select(tables.members.c.invitation).where(tables.members.c.invitation == tables.invitations.c.hash).exists()
    wanted = select(tables.invitations, used.label("used"))
    ordered = wanted.order_by(tables.invitations.c.expires_at, tables.invitations.c.hash)
    return list((await connection.execute(ordered)).all())


def _code(row: Row[Any], now: float) -> HandedOut:
    over = row.expires_at < now or row.tried >= ATTEMPTS
    state = USED if row.spent_by is not None else OVER if over else OPEN
    return HandedOut(_reference(row.hash), row.expires_at, state, row.onset, row.tried)


def _invitation(row: Row[Any], now: float) -> HandedOut:
    state = USED if row.used else OVER if row.expires_at < now else OPEN
    return HandedOut(_reference(row.hash), row.expires_at, state)
