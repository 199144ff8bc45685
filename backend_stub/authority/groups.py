"""Group managers: they admit proxies to their group, remove them, and say which signed (*Setup_ProxyGr, Join_ProxyGr*).

What a removed proxy signed is refused in declarations from then on, also what it signed before: nobody can tell when it
signed. Agents have the contacts concerned extended anew, by another proxy.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete, insert, select, update

from backend_stub.authority import chains
from backend_stub.authority.admission import Admission, Invitation, Request, bound
from backend_stub.clock import today
from backend_stub.keyring import keys
from backend_stub.network import certificates
from backend_stub.storage import tables
from backend_stub.storage.database import Taken
from protocol import batch, chain, contact, credential, hashing
from protocol.credential import Holder
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import Misuse, Refused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority
    from protocol.credential import Credential, IssuerKey, IssuerSecret
    from protocol.curve import Curve
    from protocol.messages import ContactRecord, IssuerPublic, JoinRequest, Parameters, ProxyGroup
    from protocol.parameters import Trusted
    from protocol.randomness import Random

MOST_PROXIES = 256  # in a group: what the parameters have room for


@dataclass(frozen=True, slots=True)
class Group:
    """A proxy group as its manager knows it."""

    name: str
    secret: IssuerSecret
    public: IssuerPublic
    key: IssuerKey


def new_group(curve: Curve, random: Random, name: str) -> Group:
    """*Setup_ProxyGr*."""
    secret, public = credential.new_issuer(curve, random, Holder.PROXY)
    return Group(name, secret, public, credential.read_issuer(curve, Holder.PROXY, public))


def first_name(name: str) -> str:
    """The name, of a proxy or group, without the number of its key."""
    return re.sub(r"-k\d+$", "", name)


def proxy_folder(name: str) -> str:
    """The folder of the proxy of this name."""
    return f"proxy-{name}"


# --- admitting ---


def new_proxy(curve: Curve, random: Random, group: Group, home: Path, name: str, url: str) -> dict[str, Any]:
    """A proxy's credential, into its folder, while a backend is founded; returned is what the manager keeps."""
    kept, own = make_member(curve, random, group, name, url)
    keys.write_credential(home, own)
    return kept


def make_member(curve: Curve, random: Random, group: Group, name: str, url: str) -> tuple[dict[str, Any], Credential]:
    """What the group manager keeps of a new member, and the member's credential."""
    secret, nonce = credential.new_secret(random), random(32)
    request = credential.join(curve, random, secret, group.key, nonce)
    issued = credential.issue(curve, random, group.secret, group.key, request, nonce)
    return _kept(name, group.name, url, request), credential.accept(curve, secret, group.key, issued)


def _kept(name: str, group: str, url: str, request: JoinRequest) -> dict[str, Any]:
    return {
        "name": name,
        "group": group,
        "url": url,
        "public": request.public,
        "opening": request.opening,
        "removed": False,
    }


async def invite(authority: Authority, name: str, group: str, url: str, server: str, public_url: str) -> Invitation:
    """Invite a proxy; one of this name that was invited before, and never admitted, has to use the new invitation.

    server, public_url: where that proxy reaches server and authority. Raises Misuse.
    """
    nonce = authority.random(32)
    expires_at = int(authority.clock.now()) + authority.told.invitation_days * SECONDS_A_DAY
    row = {"name": name, "group": group, "url": url, "nonce": nonce, "expires_at": expires_at}

    async def work(connection: AsyncConnection) -> Invitation:
        now = (await chains.newest(connection)).parameters
        await _check_room(connection, now, name, group, url)
        genesis = await chains.link(connection, chains.PARAMETERS, 0)
        if genesis is None:
            raise StorageError("the authority's database has no first parameters; bring back a copy of it")
        invitation = _invitation(
            name=name,
            group=group,
            url=url,
            nonce=nonce,
            key=next(one.key for one in now.groups if one.name == group),
            authority=public_url,
            genesis=chain.hash_of(hashing.PARAMETERS, genesis).hex(),
            server=server,
            clock=authority.told.clock,
            roots=tuple(
                one.public_bytes(Encoding.DER) for one in certificates.roots(authority.folder) if authority.told.tls
            ),
        )
        await connection.execute(delete(tables.invited).where(tables.invited.c.name == name))
        await connection.execute(insert(tables.invited), row)
        return invitation

    return await authority.database.run(work)


def _invitation(**parts: Any) -> Invitation:
    try:
        return msgspec.convert(parts, Invitation)
    except msgspec.ValidationError as error:
        raise Misuse(f"no proxy can be invited so: {error}; mend it") from None


async def _check_room(connection: AsyncConnection, now: Parameters, name: str, group: str, url: str) -> None:
    proxies = tables.proxies.c
    groups = {one.name: one for one in now.groups if one.until_day is None}
    if group not in groups:
        raise Misuse(f"there is no group {group!r}, or its key was replaced; there are {', '.join(sorted(groups))}")
    if len(groups[group].proxies) >= MOST_PROXIES:
        raise Misuse(f"{group} has {MOST_PROXIES} proxies, which is all that fit; choose another group")
    if first_name(name) != name:
        raise Misuse(f"{name!r} ends like a replaced credential's; choose a name that does not end so")
    if await _proxy(connection, proxies.name == name) is not None:
        raise Misuse(f"there is or was a proxy {name!r}; choose another name")
    there = await _proxy(connection, proxies.url == url, proxies.removed.is_(False))
    if there is not None:
        raise Misuse(f"{there.name} is at {url}; choose another URL, or remove {there.name} first")


async def _proxy(connection: AsyncConnection, *where: ColumnElement[bool]) -> Row[Any] | None:
    return (await connection.execute(select(tables.proxies).where(*where))).first()


async def admit(authority: Authority, request: Request) -> Admission:
    """The credential for a proxy that was invited, and new parameters with it. Raises Malformed, Refused or Misuse.

    The same request, sent again, is answered again: an admission may get lost on its way.
    """
    name, public = request.name, request.join.public

    async def look(connection: AsyncConnection) -> tuple[Row[Any] | None, Row[Any] | None]:
        known = await _proxy(connection, tables.proxies.c.name == name, tables.proxies.c.removed.is_(False))
        invited = await connection.execute(select(tables.invited).where(tables.invited.c.name == name))
        return known, invited.one_or_none()

    known, invited = await authority.database.run(look)
    if known is not None and known.public == public:
        return await _issue(authority, request, known.group, known.url, request.nonce)
    if invited is None or invited.expires_at < authority.clock.now():
        raise Misuse(f"no proxy {name!r} is invited; invite it, and let it ask with the new invitation")

    async def check(connection: AsyncConnection) -> None:
        now = (await chains.newest(connection)).parameters
        await _check_room(connection, now, name, invited.group, invited.url)

    await authority.database.run(check)  # before its group's key, which may be gone, is asked for
    admission = await _issue(authority, request, invited.group, invited.url, invited.nonce)

    async def enter(connection: AsyncConnection) -> None:
        await chains.alone(connection)
        await check(connection)
        await connection.execute(delete(tables.invited).where(tables.invited.c.name == name))
        await connection.execute(insert(tables.proxies), _kept(name, invited.group, invited.url, request.join))
        await chains.change(authority, connection, lambda before: _with(before, invited.group, invited.url))

    try:
        await authority.database.run(enter)
    except Taken:
        raise Refused("this public key is another proxy's; ask with a new invitation in a new folder") from None
    return admission


async def _issue(authority: Authority, request: Request, group: str, url: str, nonce: bytes) -> Admission:
    current = await authority.current()
    key = current.keys.signers.group(group, today(authority.clock))
    secret = keys.read_issuer(authority.folder, keys.name_of(authority.folder, group, key.encoded))
    issued = await asyncio.to_thread(
        credential.issue, authority.curve, authority.random, secret, key, request.join, bound(nonce, request.tls)
    )
    certificate = b""
    if request.tls:
        certificate = certificates.issue(authority.folder, request.tls, (urlsplit(url).hostname or "",), url)
    return Admission(name=request.name, issued=issued, certificate=certificate)


def _with(before: Parameters, group: str, url: str) -> Parameters:
    return _changed(before, lambda one: (*one.proxies, url) if one.name == group else one.proxies)


def _changed(before: Parameters, proxies: Callable[[ProxyGroup], tuple[str, ...]]) -> Parameters:
    groups = tuple(msgspec.structs.replace(one, proxies=proxies(one)) for one in before.groups)
    return msgspec.structs.replace(before, groups=groups)


# --- removing ---


async def remove(authority: Authority, name: str) -> Trusted | None:
    """Remove a proxy: what it signed is refused from now on, and new parameters, returned, are without it.

    None where it was only invited, and is not any more. Raises Misuse.
    """
    proxies, invited = tables.proxies, tables.invited

    async def work(connection: AsyncConnection) -> Trusted | None:
        await chains.alone(connection)
        there = select(proxies.c.name, proxies.c.url).where(proxies.c.removed.is_(False))
        urls = {row.name: row.url for row in await connection.execute(there)}
        if name in urls:
            # All its credentials: one that was replaced has a row of its own.
            every = (proxies.c.url == urls[name], proxies.c.removed.is_(False))
            await connection.execute(update(proxies).where(*every).values(removed=True))
            return await chains.change(authority, connection, lambda before: _without(before, urls[name]))
        if (await connection.execute(delete(invited).where(invited.c.name == name))).rowcount:
            return None
        raise Misuse(f"there is no proxy {name!r}; there are {', '.join(sorted(urls))}")

    return await authority.database.run(work)


def _without(before: Parameters, gone: str) -> Parameters:
    return _changed(before, lambda one: tuple(url for url in one.proxies if url != gone))


async def removed_openings(connection: AsyncConnection) -> tuple[tuple[str, bytes], ...]:
    """The opening keys of removed proxies: (group, T~)."""
    proxies = tables.proxies.c
    rows = await connection.execute(
        select(proxies.group, proxies.opening).where(proxies.removed).order_by(proxies.name)
    )
    return tuple((row.group, row.opening) for row in rows)


# --- looking ---


@dataclass(frozen=True, slots=True)
class Listed:
    """A proxy as its group manager lists it. state: `member`, `removed` or `invited`."""

    name: str
    group: str
    url: str
    state: str


async def listed(authority: Authority) -> list[Listed]:
    """Every proxy there is, was, or is invited, by group and name."""

    async def work(connection: AsyncConnection) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
        proxies = (await connection.execute(select(tables.proxies))).all()
        return proxies, (await connection.execute(select(tables.invited))).all()

    proxies, invited = await authority.database.run(work)
    found = [Listed(one.name, one.group, one.url, "removed" if one.removed else "member") for one in proxies]
    found += [Listed(one.name, one.group, one.url, "invited") for one in invited]
    return sorted(found, key=lambda one: (one.group, one.name))


async def signer(authority: Authority, record: ContactRecord) -> Listed | None:
    """The proxy that signed a contact record; None where it is none of those that this group manager ever admitted.

    The record's signatures are checked first: of a record that was put together from parts of others, whose proxies
    did not sign it so, nothing is said. Raises Malformed or Refused.
    """
    current = await authority.current()

    async def look(connection: AsyncConnection) -> Sequence[Row[Any]]:
        return (await connection.execute(select(tables.proxies).where(tables.proxies.c.group == record.group))).all()

    rows = await authority.database.run(look)

    def work() -> int | None:
        curve, signers = authority.curve, current.keys.signers
        if not batch.holds(curve, authority.random, contact.record_claims(curve, signers, record)):
            raise Refused("server and proxy did not sign this record so; it was altered or put together from others")
        openings = [curve.decode_g2(row.opening, "a proxy's opening key") for row in rows]
        return credential.opens(curve, signers.group(record.group, record.day), record.proof, openings)

    index = await asyncio.to_thread(work)
    if index is None:
        return None
    one = rows[index]
    return Listed(one.name, one.group, one.url, "removed" if one.removed else "member")
