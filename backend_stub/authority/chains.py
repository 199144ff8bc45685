"""The authority's two chains in its database: what they hold, and how they grow."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, func, insert, select, text

from backend_stub.clock import today
from backend_stub.keyring import keys
from backend_stub.storage import tables
from protocol import chain, credential, messages, parameters, publication
from protocol.credential import Holder
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import StorageError
from protocol.messages import Head, Heads, Link, UserIssuer
from protocol.parameters import Trusted
from protocol.publication import PublishedToken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority
    from protocol.messages import Parameters

log = logging.getLogger(__name__)

MARGIN_DAYS = 7  # that publications are offered beyond the retention

PARAMETERS = "parameters"
PUBLICATIONS = "publications"

links = tables.links


async def head(connection: AsyncConnection, name: str) -> Head:
    """How far this chain goes."""
    newest = select(links.c.number, links.c.hash).where(links.c.chain == name).order_by(links.c.number.desc()).limit(1)
    row = (await connection.execute(newest)).one_or_none()
    return chain.EMPTY if row is None else Head(number=row.number, hash=row.hash)


async def heads(connection: AsyncConnection) -> Heads:
    """How far both chains go."""
    return Heads(
        parameters=await head(connection, PARAMETERS),
        publications=await head(connection, PUBLICATIONS),
        oldest=await oldest(connection),
    )


async def link(connection: AsyncConnection, name: str, number: int) -> Link | None:
    """The link of this number, or None where the chain is shorter."""
    row = (
        await connection.execute(
            select(links.c.body, links.c.signature).where(links.c.chain == name, links.c.number == number)
        )
    ).one_or_none()
    return None if row is None else Link(body=row.body, signature=row.signature)


async def append(connection: AsyncConnection, name: str, after: Head, fresh: Link) -> None:
    """Add a link, after which the chain's head is `after`."""
    values = {"number": after.number, "hash": after.hash, "body": fresh.body, "signature": fresh.signature}
    await connection.execute(insert(links).values(chain=name, **values))


async def alone(connection: AsyncConnection) -> None:
    """Nobody else adds a link until the end of this transaction, of which this is the first statement."""
    # Only so does what follows see the link that was waited for. SQLite lets one writer in at a time as it is.
    if connection.dialect.name == "postgresql":
        await connection.execute(text("LOCK TABLE links IN SHARE ROW EXCLUSIVE MODE"))


# --- parameters ---


async def newest(connection: AsyncConnection) -> Trusted:
    """The newest parameters; the chain in the authority's own database needs no second check."""
    at = await head(connection, PARAMETERS)
    last = await link(connection, PARAMETERS, at.number)
    if last is None:
        raise StorageError("the authority's database has no parameters; bring back a copy of it, or make a new backend")
    return Trusted(at, messages.decode(messages.Parameters, last.body))


async def known(connection: AsyncConnection, name: bytes, now: float) -> Parameters | None:
    """The parameters of this hash, None where there are none or they have run out."""
    body = await connection.scalar(select(links.c.body).where(links.c.chain == PARAMETERS, links.c.hash == name))
    found = None if body is None else messages.decode(messages.Parameters, body)
    return found if found is not None and found.valid_until >= now else None


async def history(connection: AsyncConnection) -> list[Parameters]:
    """All parameters there ever were, oldest first."""
    bodies = select(links.c.body).where(links.c.chain == PARAMETERS).order_by(links.c.number)
    return [messages.decode(messages.Parameters, body) for body in await connection.scalars(bodies)]


async def change(
    authority: Authority, connection: AsyncConnection, changed: Callable[[Parameters], Parameters]
) -> Trusted:
    """Append parameters that differ from the newest by this change. Raises Malformed where they make no sense."""
    before = await newest(connection)
    now = int(authority.clock.now())
    fresh = msgspec.structs.replace(
        changed(before.parameters),
        number=before.head.number + 1,
        previous=before.head.hash,
        issued_at=now,
        valid_until=now + authority.told.parameters_days * SECONDS_A_DAY,
    )
    signed = parameters.sign(keys.read_signing(authority.folder, "chain", before.parameters.chain_key), fresh)
    after = parameters.advance(before, signed)
    await append(connection, PARAMETERS, after.head, signed)
    log.info("parameters number %d are made", after.head.number)
    return after


async def renew(authority: Authority) -> None:
    """Append parameters if the newest are half through their time, or the users' issuer key is near its end.

    One transaction, key and all, so that two who renew at once do not make two keys of one number.
    """
    told, day = authority.told, today(authority.clock)

    async def work(connection: AsyncConnection) -> None:
        await alone(connection)
        before = (await newest(connection)).parameters
        last = max(before.issuers, key=lambda issuer: issuer.number)
        fresh: tuple[UserIssuer, ...] = ()
        if day > last.until_day - told.issuer_overlap:
            # From tomorrow on, so that server and proxies know it before its first user comes; unless it is late.
            from_day = day + 1 if day < last.until_day else day
            fresh = (await new_issuer(authority, last.number + 1, from_day),)
        half = told.parameters_days * SECONDS_A_DAY / 2
        if fresh or authority.clock.now() > before.valid_until - half:
            first = await oldest(connection)
            await change(authority, connection, lambda now: _with_issuers(now, fresh, day, first))

    await authority.database.run(work)


def _with_issuers(now: Parameters, fresh: tuple[UserIssuer, ...], day: int, oldest: int) -> Parameters:
    """With fresh issuers, and without the keys under which nothing counts any more.

    A key that is over is still needed for the contacts made in its time.
    """

    def counts(until_day: int | None) -> bool:
        return until_day is None or until_day + now.limits.retention_days >= day

    later = [*(one.first for one in now.publication_keys[1:]), math.inf]
    return msgspec.structs.replace(
        now,
        issuers=tuple(one for one in now.issuers if counts(one.until_day)) + fresh,
        server_keys=tuple(one for one in now.server_keys if counts(one.until_day)),
        groups=tuple(one for one in now.groups if counts(one.until_day)),
        publication_keys=tuple(one for one, after in zip(now.publication_keys, later, strict=True) if after > oldest),
    )


async def new_issuer(authority: Authority, number: int, from_day: int) -> UserIssuer:
    """A fresh issuer key of users; its secret is in the authority's folder before anybody hears of it."""
    secret, public = await asyncio.to_thread(credential.new_issuer, authority.curve, authority.random, Holder.USER)
    keys.write_next(authority.folder, keys.issuer_file(number), public.x, keys.issuer_bytes(secret))
    until_day = from_day + authority.told.issuer_days - 1
    return UserIssuer(number=number, from_day=from_day, until_day=until_day, key=public)


# --- publications ---


async def publish(authority: Authority) -> int:
    """Publish what waits, in as many links as it takes. How many tokens there were.

    One transaction, so that a token is neither lost nor published twice.
    """
    waiting = tables.tokens

    async def work(connection: AsyncConnection) -> tuple[int, int]:
        await alone(connection)
        rows = (await connection.execute(select(waiting))).all()
        before = await head(connection, PUBLICATIONS)
        if not rows:
            return 0, before.number
        current = (await newest(connection)).parameters
        for after, signed in await asyncio.to_thread(_publications, authority, current, before, rows):
            before = after
            await append(connection, PUBLICATIONS, after, signed)
        await connection.execute(delete(waiting))
        return len(rows), before.number

    count, number = await authority.database.run(work)
    if count:
        log.info("publications are made up to number %d", number)
    return count


def _publications(
    authority: Authority, current: Parameters, before: Head, rows: Sequence[Row[Any]]
) -> list[tuple[Head, Link]]:
    """The signed links with these tokens; with a million of them, this takes seconds."""
    batches = publication.build(
        authority.random,
        before,
        int(authority.clock.now()),
        (PublishedToken(row.token, row.day, row.level) for row in rows),
        current.limits.floor,
    )
    made = []
    for batch in batches:
        public = publication.key_of(current.publication_keys, batch.number)
        signed = publication.sign(keys.read_signing(authority.folder, "publication", public), batch)
        made.append((Head(number=batch.number, hash=publication.hash_of(batch)), signed))
    return made


async def oldest(connection: AsyncConnection) -> int:
    """The number of the oldest publication still offered; 0 where there is none."""
    return await connection.scalar(select(func.min(links.c.number)).where(links.c.chain == PUBLICATIONS)) or 0


async def forget_publications(authority: Authority) -> int:
    """Drop publications whose successor can concern nobody any more either; the last one stays. How many they were."""

    async def work(connection: AsyncConnection) -> int:
        await alone(connection)
        limits = (await newest(connection)).parameters.limits
        until = authority.clock.now() - (limits.retention_days + MARGIN_DAYS) * SECONDS_A_DAY
        first = dropped = await oldest(connection)
        while (after := await link(connection, PUBLICATIONS, dropped + 1)) is not None:
            if messages.decode(messages.Publication, after.body).issued_at >= until:
                break
            dropped += 1
        gone = delete(links).where(links.c.chain == PUBLICATIONS, links.c.number < dropped)
        await connection.execute(gone)
        return dropped - first

    return await authority.database.run(work)
