"""How the authority replaces keys: the new secret is stored, its public key announced, the old secret destroyed.

In this order, so that whatever is interrupted can be begun again: a stored secret whose public key nobody ever heard of
does no harm, and `tidy`, which also runs by itself, destroys what is over. What stays valid for how long is said in
docs/protocol.md, 8.6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select

from backend_stub.authority import chains, groups
from backend_stub.authority.groups import first_name
from backend_stub.clock import today
from backend_stub.following.signing import SERVER
from backend_stub.keyring import keys
from backend_stub.storage import tables
from protocol import contact, credential
from protocol.credential import Holder
from protocol.curve import encode_scalar
from protocol.declaration import read_seal_secret
from protocol.encounter import SECONDS_A_DAY, day_of
from protocol.errors import Misuse
from protocol.messages import ProxyGroup, PublicationKey, ServerKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.groups import Group
    from backend_stub.authority.service import Authority
    from protocol.credential import Credential
    from protocol.curve import Curve
    from protocol.messages import Parameters
    from protocol.parameters import Trusted
    from protocol.randomness import Random

AHEAD = 3600  # s that a server key is announced before it is used
GROUP_DAYS = 1  # that a group's old key is good for after today, so that its proxies have time to take up the new one
SEAL_MARGIN = SECONDS_A_DAY  # s that a seal secret is kept after the last parameters with it have run out


def _changing(**fields: Any) -> Callable[[Parameters], Parameters]:
    return lambda before: msgspec.structs.replace(before, **fields)


# --- keys of the authority alone ---


def _new_signing(authority: Authority, kind: str) -> bytes:
    secret = authority.random(32)
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    keys.write_next(authority.folder, kind, public, secret)
    return public


async def rotate_chain(authority: Authority) -> Trusted:
    """The key that signs parameters: the old one signs the link that names the new one, and is destroyed."""
    public = _new_signing(authority, "chain")
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        after = await chains.change(authority, connection, _changing(chain_key=public))
    await tidy(authority)
    return after


async def rotate_publication(authority: Authority) -> Trusted:
    """The key that signs publications, from the next one on; the old one is destroyed."""
    public = _new_signing(authority, "publication")
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        first = (await chains.head(connection, chains.PUBLICATIONS)).number + 1
        before = (await chains.newest(connection)).parameters.publication_keys
        kept = tuple(one for one in before if one.first < first)  # one that never signed anything makes room
        fresh = (*kept, PublicationKey(first=first, key=public))
        after = await chains.change(authority, connection, _changing(publication_keys=fresh))
    await tidy(authority)
    return after


async def rotate_seal(authority: Authority) -> Trusted:
    """The key that reports are sealed to; the old one opens reports made by parameters that are still valid."""
    seed = authority.random(keys.SEAL_SEED)
    public = read_seal_secret(seed).public
    keys.write_next(authority.folder, "seal", public, seed)
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        return await chains.change(authority, connection, _changing(seal_key=public))


async def rotate_issuer(authority: Authority) -> Trusted:
    """The users' issuer key, ahead of its time: the next one's period begins tomorrow, the old one's goes on."""
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        before = (await chains.newest(connection)).parameters
        last, day = max(before.issuers, key=lambda one: one.number), today(authority.clock)
        if last.from_day > day:
            raise Misuse(f"issuer {last.number} is announced already; its period begins tomorrow")
        fresh = await chains.new_issuer(authority, last.number + 1, day + 1)
        return await chains.change(authority, connection, _changing(issuers=(*before.issuers, fresh)))


# --- the server's ---


def new_server_secret(curve: Curve, random: Random, folder: Path) -> bytes:
    """A new secret in the server's folder, for which it has no use until its public key, returned, is announced."""
    secret, public = contact.new_server_key(curve, random)
    keys.write_next(folder, SERVER, public, encode_scalar(secret.y))
    return public


async def rotate_server(authority: Authority, public: bytes, ahead: int = AHEAD) -> Trusted:
    """Announce a public key of the server's, which it signs with from `ahead` seconds from now on. Raises Misuse."""
    authority.curve.decode_g2(public, "the server's key")
    now = int(authority.clock.now())
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        before = (await chains.newest(connection)).parameters
        *earlier, last = before.server_keys
        if any(one.key == public for one in before.server_keys):
            raise Misuse("this server key is announced already; make a new one")
        if last.from_time > now:
            raise Misuse("another server key is announced already and not in use yet; try again once it is")
        fresh = ServerKey(number=last.number + 1, from_time=now + ahead, key=public)
        until_day = day_of(fresh.from_time + before.limits.clock_tolerance)
        old = msgspec.structs.replace(last, until_day=until_day)
        return await chains.change(authority, connection, _changing(server_keys=(*earlier, old, fresh)))


# --- groups and proxies ---


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of a group's new key. group: its name; proxies: that have credentials for it; away: that need one."""

    trusted: Trusted
    group: str
    proxies: tuple[str, ...]
    away: tuple[str, ...]


async def rotate_group(authority: Authority, folder: Path, name: str) -> Moved:
    """A new key of this group: a new group, into which those proxies move whose folders are here. Raises Misuse."""
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        before = (await chains.newest(connection)).parameters
        old = _group_of(before, name)
        rows = (await connection.execute(select(tables.proxies))).all()
        members = [row for row in _newest(rows) if row.group == name and row.url in old.proxies]
        here = [row for row in members if _home(folder, row.name).is_dir()]
        fresh = _next_name(name, {one.name for one in before.groups} | {row.group for row in rows})
        group = groups.new_group(authority.curve, authority.random, fresh)
        keys.write_next(authority.folder, fresh, group.key.encoded, keys.issuer_bytes(group.secret))
        taken = {row.name for row in rows}
        for row in here:
            own = await _admit_again(authority, connection, group, row, taken)
            keys.write_credential(_home(folder, row.name), own, group.key.encoded)
        moved = tuple(row.url for row in here)
        left = tuple(url for url in old.proxies if url not in moved)
        until_day = None if left else today(authority.clock) + GROUP_DAYS
        after = tuple(
            msgspec.structs.replace(one, proxies=left, until_day=until_day) if one.name == name else one
            for one in before.groups
        )
        new = ProxyGroup(name=fresh, key=group.public, proxies=moved)
        trusted = await chains.change(authority, connection, _changing(groups=(*after, new)))
    await tidy(authority)
    away = tuple(row.name for row in members if row not in here)
    return Moved(trusted, fresh, tuple(first_name(row.name) for row in here), away)


async def rotate_proxy(authority: Authority, folder: Path, name: str) -> Trusted:
    """A new credential of a proxy whose folder is here, under its group's key. Raises Misuse.

    What its group manager keeps comes first: nothing must ever sign that could not be removed. New parameters, the same
    as before, have the proxy look into its folder.
    """
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        rows = (await connection.execute(select(tables.proxies))).all()
        mine = [row for row in _newest(rows) if first_name(row.name) == name]
        if not mine or not _home(folder, name).is_dir():
            raise Misuse(f"there is no proxy {name!r} here; one elsewhere is removed, then invited anew")
        public = _group_of((await chains.newest(connection)).parameters, mine[0].group).key
        key = credential.read_issuer(authority.curve, Holder.PROXY, public)
        file = keys.name_of(authority.folder, mine[0].group, key.encoded)
        group = groups.Group(mine[0].group, keys.read_issuer(authority.folder, file), public, key)
        own = await _admit_again(authority, connection, group, mine[0], {row.name for row in rows})
    keys.write_credential(_home(folder, name), own, group.key.encoded)
    async with authority.database.transaction() as connection:
        await chains.alone(connection)
        return await chains.change(authority, connection, lambda before: before)


async def _admit_again(
    authority: Authority, connection: AsyncConnection, group: Group, row: Row[Any], taken: set[str]
) -> Credential:
    name = _next_name(row.name, taken)
    kept, own = groups.make_member(authority.curve, authority.random, group, name, row.url)
    await connection.execute(insert(tables.proxies), kept)
    taken.add(name)
    return own


def _home(folder: Path, name: str) -> Path:
    return folder / groups.proxy_folder(first_name(name))


def _next_name(name: str, taken: Iterable[str]) -> str:
    """The name of the next key: north, north-k2, north-k3."""
    taken, base = set(taken), first_name(name)
    return next(fresh for number in range(2, 1000) if (fresh := f"{base}-k{number}") not in taken)


def _newest(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """The last credential of each proxy that is not removed."""
    found = {first_name(row.name): row for row in sorted(rows, key=lambda row: _number(row.name)) if not row.removed}
    return list(found.values())


def _number(name: str) -> int:
    match = re.search(r"-k(\d+)$", name)
    return int(match[1]) if match else 1


def _group_of(now: Parameters, name: str) -> ProxyGroup:
    there = {one.name: one for one in now.groups if one.until_day is None}
    if name not in there:
        raise Misuse(f"there is no group {name!r} in use; there are {', '.join(sorted(there))}")
    return there[name]


# --- the end of the old ones ---


async def tidy(authority: Authority) -> list[str]:
    """Destroy the authority's secrets that nothing is signed or opened with any more; the names of those there were."""
    history = await authority.database.run(chains.history)
    now, day = authority.clock.now(), today(authority.clock)
    newest = history[-1]
    needed = {("chain", newest.chain_key), ("publication", newest.publication_keys[-1].key)}
    needed |= {("seal", one.seal_key) for one in history if one.valid_until + SEAL_MARGIN >= now or one is newest}
    needed |= {_issuer(one) for one in newest.issuers if one.until_day >= day}
    needed |= {_group(one) for one in newest.groups if one.until_day is None}
    announced = {key for one in history for key in _announced(one)}
    kept = {keys.name_of(authority.folder, *key) for key in needed}
    over = {keys.name_of(authority.folder, *key) for key in announced - needed} - kept
    return [name for name in sorted(over) if keys.destroy(authority.folder, name)]


def _issuer(one: Any) -> tuple[str, bytes]:
    return keys.issuer_file(one.number), one.key.x


def _group(one: ProxyGroup) -> tuple[str, bytes]:
    return one.name, one.key.x + one.key.y


def _announced(one: Parameters) -> Iterable[tuple[str, bytes]]:
    yield from (("chain", one.chain_key), ("seal", one.seal_key))
    yield from (("publication", key.key) for key in one.publication_keys)
    yield from map(_issuer, one.issuers)
    yield from map(_group, one.groups)


# --- looking ---


async def ages(connection: AsyncConnection, now: float) -> list[dict[str, Any]]:
    """Every key in the newest parameters: what it is, since when it is announced, and until which day it counts."""
    history = await chains.history(connection)
    since: dict[tuple[str, bytes], int] = {}
    for one in history:
        for key in (*_announced(one), *(("server", server.key) for server in one.server_keys)):
            since.setdefault(key, one.issued_at)
    newest = history[-1]
    listed: list[tuple[str, tuple[str, bytes], int | None]] = [
        ("chain", ("chain", newest.chain_key), None),
        ("seal", ("seal", newest.seal_key), None),
        *((f"publication, from {one.first}", ("publication", one.key), None) for one in newest.publication_keys),
        *((f"server {one.number}", ("server", one.key), one.until_day) for one in newest.server_keys),
        *((f"issuer {one.number}", _issuer(one), one.until_day) for one in newest.issuers),
        *((f"group {one.name}", _group(one), one.until_day) for one in newest.groups),
    ]
    return [
        {"key": name, "days": int((now - since[key]) // SECONDS_A_DAY), "until_day": until_day}
        for name, key, until_day in listed
    ]
