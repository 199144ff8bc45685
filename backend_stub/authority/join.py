"""How users join (*Set_UserID, Userkeygen*): an invitation, a nonce and a public key, each once; and renew."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, or_, select

from backend_stub.clock import today
from backend_stub.keyring import keys
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import credential, declaration, messages, parameters
from protocol.encounter import SECONDS_A_DAY, day_of
from protocol.errors import CodeRefused, Misuse, Refused

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority
    from backend_stub.settings import AuthoritySettings
    from protocol.messages import Renewal, UserJoin
    from protocol.randomness import Random

NONCE_SECONDS = 600
AT_ONCE = 500  # members forgotten in one transaction
_TIME, _MARK = 8, 16  # bytes of a nonce that say when it expires, and that it is ours

USED = "this invitation was used already; ask the authority for another"


class Nonces:
    """Nonces that need no memory until they are used: expiry ‖ random ‖ mark of a key that all processes share."""

    def __init__(self, random: Random, key: bytes) -> None:
        self._random = random
        self._key = key

    def fresh(self, now: float) -> bytes:
        """A nonce for the next minutes, 32 bytes."""
        start = int(now + NONCE_SECONDS).to_bytes(_TIME, "big") + self._random(32 - _TIME - _MARK)
        return start + self._mark(start)

    def check(self, nonce: bytes, now: float) -> None:
        """Raises Refused unless it was given out here, lately."""
        start, mark = nonce[:-_MARK], nonce[-_MARK:]
        if not hmac.compare_digest(mark, self._mark(start)) or int.from_bytes(start[:_TIME], "big") < now:
            raise Refused("this nonce is not one of the last minutes; join anew")

    def _mark(self, start: bytes) -> bytes:
        return hmac.digest(self._key, start, "sha256")[:_MARK]


def hash_of(code: str) -> bytes:
    """What is kept of a report code or an invitation: 80 random bits do not come back from it."""
    return hashlib.sha256(code.encode()).digest()


async def invite(authority: Authority, count: int) -> list[str]:
    """Fresh invitations."""
    fresh = [declaration.new_code(authority.random) for _ in range(count)]
    expires_at = int(authority.clock.now()) + authority.told.invitation_days * 86400
    rows = [{"hash": hash_of(declaration.normal_code(one)), "expires_at": expires_at} for one in fresh]
    await authority.database.run(lambda connection: connection.execute(db.new(tables.invitations, connection), rows))
    return fresh


async def join(authority: Authority, body: bytes) -> bytes:
    """The encoded credential for this encoded UserJoin; the very same request, sent again, gets the very same one.

    Raises Malformed, CodeRefused, Refused or NotMine.
    """
    asked = messages.decode(messages.UserJoin, body)
    invitation = hash_of(declaration.normal_code(asked.invitation))
    request = hashlib.sha256(body).digest()

    async def look(connection: AsyncConnection) -> tuple[Row[Any, Any] | None, int | None]:
        invitations = tables.invitations.c
        expires_at = await connection.scalar(select(invitations.expires_at).where(invitations.hash == invitation))
        return await _member(connection, invitation), expires_at

    earlier, expires_at = await authority.database.run(look)
    if earlier is not None:
        return _again(earlier, request)
    now = authority.clock.now()
    if expires_at is None:
        raise CodeRefused("there is no such invitation; check it, or ask the authority for another")
    if expires_at < now:
        raise CodeRefused("this invitation has expired; ask the authority for another")
    authority.nonces.check(asked.join.nonce, now)
    row = {
        "invitation": invitation,
        "nonce": asked.join.nonce,
        "public": asked.join.public,
        "request": request,
        "issued": await _issued(authority, asked),
    }

    async def enter(connection: AsyncConnection) -> Row[Any, Any] | None:
        await connection.execute(db.new(tables.members, connection).values(row))
        return await _member(connection, invitation)

    entered = await authority.database.run(enter)
    if entered is None:
        raise Refused("this nonce or public key was used before; join anew, with a new secret key")
    return _again(entered, request)


async def renew(authority: Authority, body: bytes) -> bytes:
    """The encoded credential under a later issuer for the member who sent this encoded Renewal.

    The same member gets the same one again, which is worthless to anybody else. Raises Malformed, Refused or NotMine.
    """
    asked = messages.decode(messages.Renewal, body)
    authority.nonces.check(asked.join.nonce, authority.clock.now())
    members, credentials, day = tables.members, tables.credentials, today(authority.clock)
    current = (await authority.current()).trusted.parameters
    until_day = next((one.until_day for one in current.issuers if one.number == asked.issuer), day)
    this = (credentials.c.public == asked.join.public, credentials.c.issuer == asked.issuer)

    async def check(connection: AsyncConnection) -> None:
        member = select(members.c.invitation).where(members.c.public == asked.join.public)
        invitation = await connection.scalar(
            member.where(members.c.invitation.not_in(select(tables.ended.c.invitation)))
        )
        if invitation is None:
            raise Refused("whoever asks for this credential is no member, or not any more; ask the authority")
        mine = select(func.max(credentials.c.until_day)).where(credentials.c.public == asked.join.public)
        last = await connection.scalar(mine)
        if last is not None and last + authority.told.lapse_days < day:
            raise Refused("this membership has not been renewed for too long; join again with a new invitation")

    await authority.database.run(check)  # strangers are told so before there is much work
    issued = await _issued(authority, asked)

    async def enter(connection: AsyncConnection) -> bytes:
        await check(connection)
        row = {"public": asked.join.public, "issuer": asked.issuer, "until_day": until_day, "issued": issued}
        await connection.execute(db.new(credentials, connection).values(row))
        kept: bytes = (await connection.scalars(select(credentials.c.issued).where(*this))).one()
        return kept

    return await authority.database.run(enter)


async def end(authority: Authority, invitation: str, *, erase: bool = False) -> None:
    """Let who joined by this invitation renew no more: what it has ends with its period. Raises Misuse.

    erase: forget at once what is kept of that member, so that only a new invitation lets anybody in.
    """
    hash_ = hash_of(declaration.normal_code(invitation))

    async def enter(connection: AsyncConnection) -> None:
        if await _member(connection, hash_) is None:
            raise Misuse("nobody joined by this invitation; check it")
        if erase:
            await _erase(connection, tables.members.c.invitation == hash_)
            await connection.execute(delete(tables.invitations).where(tables.invitations.c.hash == hash_))
        else:
            await connection.execute(db.new(tables.ended, connection).values(invitation=hash_))

    await authority.database.run(enter)


async def forget(connection: AsyncConnection, told: AuthoritySettings, now: float, retention: int) -> None:
    """Forget members whose last credential ended so long ago that it is neither renewed nor declared under any more."""
    members, credentials, invitations = tables.members, tables.credentials, tables.invitations
    days = told.lapse_days + retention
    last = func.max(credentials.c.until_day)
    lapsed = select(credentials.c.public).group_by(credentials.c.public).having(last < day_of(now) - days)
    before = now - (told.issuer_days + days) * SECONDS_A_DAY
    long_ago = select(invitations.c.hash).where(invitations.c.expires_at < before)
    never_renewed = members.c.public.not_in(select(credentials.c.public))
    await _erase(connection, or_(members.c.public.in_(lapsed), and_(members.c.invitation.in_(long_ago), never_renewed)))


async def _erase(connection: AsyncConnection, gone: ColumnElement[bool]) -> None:
    """Delete these members, and what they got and lost."""
    members, credentials, ended = tables.members, tables.credentials, tables.ended
    rows = (await connection.execute(select(members.c.invitation, members.c.public).where(gone).limit(AT_ONCE))).all()
    names = [row.invitation for row in rows]
    await connection.execute(delete(ended).where(ended.c.invitation.in_(names)))
    await connection.execute(delete(credentials).where(credentials.c.public.in_([row.public for row in rows])))
    await connection.execute(delete(members).where(members.c.invitation.in_(names)))


async def _issued(authority: Authority, asked: UserJoin | Renewal) -> bytes:
    current = await authority.current()
    parameters.check_issuer_day(current.trusted.parameters, asked.issuer, today(authority.clock))
    public = next(one.key.x for one in current.trusted.parameters.issuers if one.number == asked.issuer)
    issued = await asyncio.to_thread(
        credential.issue,
        authority.curve,
        authority.random,
        keys.read_issuer(authority.folder, keys.name_of(authority.folder, keys.issuer_file(asked.issuer), public)),
        current.keys.issuer(asked.issuer),
        asked.join,
        asked.join.nonce,
    )
    return messages.encode(issued)


async def _member(connection: AsyncConnection, invitation: bytes) -> Row[Any, Any] | None:
    members = tables.members
    return (
        await connection.execute(select(members.c.request, members.c.issued).where(members.c.invitation == invitation))
    ).one_or_none()


def _again(earlier: Row[Any, Any], request: bytes) -> bytes:
    if earlier.request != request:
        raise CodeRefused(USED)
    issued: bytes = earlier.issued
    return issued
