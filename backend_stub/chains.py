"""The authority's two chains in its database: what they hold, and how they grow."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, insert, select, text

from backend_stub import keys, store
from backend_stub.clock import today
from protocol import chain, credential, messages, parameters, publication
from protocol.credential import Holder
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import StorageError
from protocol.messages import Head, Heads, Link, UserIssuer
from protocol.parameters import Trusted
from protocol.publication import PublishedToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority import Authority
    from protocol.messages import Parameters

log = logging.getLogger(__name__)

PARAMETERS = "parameters"
PUBLICATIONS = "publications"

links = store.links


async def head(connection: AsyncConnection, name: str) -> Head:
    """How far this chain goes."""
    newest = select(links.c.number, links.c.hash).where(links.c.chain == name).order_by(links.c.number.desc()).limit(1)
    row = (await connection.execute(newest)).one_or_none()
    return chain.EMPTY if row is None else Head(number=row.number, hash=row.hash)


async def heads(connection: AsyncConnection) -> Heads:
    """How far both chains go."""
    return Heads(parameters=await head(connection, PARAMETERS), publications=await head(connection, PUBLICATIONS))


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


async def knows(connection: AsyncConnection, name: bytes, now: float) -> bool:
    """Whether this is the hash of parameters that have not run out."""
    body = await connection.scalar(select(links.c.body).where(links.c.chain == PARAMETERS, links.c.hash == name))
    return body is not None and messages.decode(messages.Parameters, body).valid_until >= now


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
    signed = parameters.sign(authority.chain_key, fresh)
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
            # A key that is over is still needed for the contacts made in its time.
            kept = tuple(one for one in before.issuers if one.until_day + before.limits.retention_days >= day)
            await change(authority, connection, lambda now: msgspec.structs.replace(now, issuers=kept + fresh))

    await authority.database.run(work)


async def new_issuer(authority: Authority, number: int, from_day: int) -> UserIssuer:
    """A fresh issuer key of users; its secret is in the authority's folder before anybody hears of it."""
    secret, public = await asyncio.to_thread(credential.new_issuer, authority.curve, authority.random, Holder.USER)
    keys.write_issuer(authority.folder, keys.issuer_file(number), secret)
    until_day = from_day + authority.told.issuer_days - 1
    return UserIssuer(number=number, from_day=from_day, until_day=until_day, key=public)


# --- publications ---


async def publish(authority: Authority) -> int:
    """Publish what waits, in as many links as it takes. How many tokens there were.

    One transaction, so that a token is neither lost nor published twice.
    """
    waiting = store.tokens

    async def work(connection: AsyncConnection) -> tuple[int, int]:
        await alone(connection)
        rows = (await connection.execute(select(waiting))).all()
        before = await head(connection, PUBLICATIONS)
        if not rows:
            return 0, before.number
        current = (await newest(connection)).parameters
        batches = publication.build(
            authority.random,
            before,
            int(authority.clock.now()),
            (PublishedToken(row.token, row.day, row.level) for row in rows),
            current.limits.floor,
        )
        for batch in batches:
            signed = publication.sign(authority.publication_key, batch)
            before = Head(number=batch.number, hash=publication.hash_of(batch))
            await append(connection, PUBLICATIONS, before, signed)
        await connection.execute(delete(waiting))
        return len(rows), before.number

    count, number = await authority.database.run(work)
    if count:
        log.info("publications are made up to number %d", number)
    return count
