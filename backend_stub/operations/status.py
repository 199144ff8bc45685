"""How a backend is doing: numbers, none of which is about one person."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from backend_stub import settings
from backend_stub.authority import chains, files, openings, progress, rotation
from backend_stub.authority import service as authority
from backend_stub.keyring import sealing
from backend_stub.network import certificates
from backend_stub.operations import running
from backend_stub.server import service as server
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import chain, hashing

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.ext.asyncio import AsyncConnection

CONNECT_SECONDS = 2


async def status(folder: Path) -> dict[str, Any]:
    """What the parts in this folder are doing, by the part's name. Raises SpotError."""
    found: dict[str, Any] = {}
    for part in settings.parts(folder):
        told = settings.read_part(folder / part)
        kept = "encrypted" if sealing.has_lock(folder / part) else "not encrypted"
        found[part] = {
            "url": told.url,
            "answers": await answers(told.host, told.port),
            "keys": kept,
            "certificate": certificates.verdict(folder / part, told),
        }
    if running.AUTHORITY in found:
        found[running.AUTHORITY] |= await _authority(folder / running.AUTHORITY)
    if running.SERVER in found:
        found[running.SERVER] |= await _server(folder / running.SERVER)
    return found


async def answers(host: str, port: int) -> bool:
    """Whether something listens there."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True
    return False


async def _authority(folder: Path) -> dict[str, Any]:
    async with authority.opened(folder) as opened:
        now = opened.clock.now()
        found = await opened.database.run(lambda connection: _of_authority(connection, now))
        files_there = await asyncio.to_thread(files.count, files.folder_of(opened))
        return found | {
            "signatures_opened": openings.count(folder),
            "workers": opened.told.workers,
            "files": files_there,
            "public_url": opened.told.public_url,
        }


async def _of_authority(connection: AsyncConnection, now: float) -> dict[str, Any]:
    newest = await chains.newest(connection)
    genesis = await chains.link(connection, chains.PARAMETERS, 0)
    proxies = tables.proxies.c
    return {
        "name": newest.parameters.authority,
        "fingerprint": chain.fingerprint(chain.hash_of(hashing.PARAMETERS, genesis)) if genesis else "",
        "parameters": newest.head.number,
        "valid_until": newest.parameters.valid_until,
        "key_ages": await rotation.ages(connection, now),
        "publications": (await chains.head(connection, chains.PUBLICATIONS)).number + 1,
        "invitations": await _count(connection, tables.invitations),
        "joined": await _count(connection, tables.members),
        "codes": await _count(connection, tables.codes),
        "codes_spent": await _count(connection, tables.codes, tables.codes.c.spent_by.is_not(None)),
        **await progress.under_way(connection, now),
        "tokens_waiting": await _count(connection, tables.tokens),
        "proxies": await _count(connection, tables.proxies, proxies.removed.is_(False)),
        "proxies_invited": await _count(connection, tables.invited),
        "proxies_removed": await _count(connection, tables.proxies, proxies.removed),
    }


async def _server(folder: Path) -> dict[str, Any]:
    told = settings.read(settings.ServerSettings, folder)
    opened = db.opened(folder / server.DATABASE, tables.SERVER, told.database)
    async with opened as database, database.snapshot() as connection:  # may count for as long as it takes
        return await _of_server(connection)


async def _of_server(connection: AsyncConnection) -> dict[str, Any]:
    sides = tables.submissions.c
    crowded = select(sides.ccm).group_by(sides.ccm).having(func.count() > 2).subquery()
    return {
        "submissions": await _count(connection, tables.submissions),
        "signed": await _count(connection, tables.submissions, sides.signed),
        "contacts_with_a_third_side": await _count(connection, crowded),
    }


async def _count(connection: AsyncConnection, table: FromClause, *where: ColumnElement[bool]) -> int:
    return await connection.scalar(select(func.count()).select_from(table).where(*where)) or 0
