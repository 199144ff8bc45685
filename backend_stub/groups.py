"""Group managers: they admit proxies to their group, and remove them (*Setup_ProxyGr, Join_ProxyGr*)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import select, update

from backend_stub import chains, keys, store
from protocol import credential
from protocol.credential import Holder
from protocol.errors import Misuse

if TYPE_CHECKING:
    from pathlib import Path

    from backend_stub.authority import Authority
    from protocol.credential import IssuerKey, IssuerSecret
    from protocol.curve import Curve
    from protocol.messages import IssuerPublic, Parameters
    from protocol.parameters import Trusted
    from protocol.randomness import Random


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


def proxy_folder(name: str) -> str:
    """The folder of the proxy of this name."""
    return f"proxy-{name}"


def admit(curve: Curve, random: Random, group: Group, home: Path, name: str, url: str) -> dict[str, Any]:
    """*Join_ProxyGr*: the proxy's credential, into its folder; returned is what the manager keeps, T~ among it."""
    secret, nonce = credential.new_secret(random), random(32)
    request = credential.join(curve, random, secret, group.key, nonce)
    issued = credential.issue(curve, random, group.secret, group.key, request, nonce)
    keys.write_credential(home, credential.accept(curve, secret, group.key, issued))
    return {
        "name": name,
        "group": group.name,
        "url": url,
        "public": request.public,
        "opening": request.opening,
        "removed": False,
    }


async def remove(authority: Authority, name: str) -> Trusted:
    """Remove a proxy: what it signed is refused from now on, and new parameters are without it. Raises Misuse."""
    proxies = store.proxies
    async with authority.database.transaction() as connection:
        there = select(proxies.c.name, proxies.c.url).where(proxies.c.removed.is_(False))
        urls = {row.name: row.url for row in await connection.execute(there)}
        if name not in urls:
            raise Misuse(f"there is no proxy {name!r}; there are {', '.join(sorted(urls))}")

        def without(before: Parameters) -> Parameters:
            left = (
                msgspec.structs.replace(group, proxies=tuple(url for url in group.proxies if url != urls[name]))
                for group in before.groups
            )
            return msgspec.structs.replace(before, groups=tuple(left))

        await connection.execute(update(proxies).where(proxies.c.name == name).values(removed=True))
        return await chains.change(authority, connection, without)
