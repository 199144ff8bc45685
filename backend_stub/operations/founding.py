"""How a backend is founded: keys, groups, the genesis of the parameters, and one folder a part."""

from __future__ import annotations

import secrets
import shutil
import socket
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select

from backend_stub import settings
from backend_stub.authority import chains
from backend_stub.authority.groups import new_group, new_proxy, proxy_folder
from backend_stub.authority.service import DATABASE, FOLDER
from backend_stub.clock import ScaledClock, today
from backend_stub.keyring import keys, sealing
from backend_stub.network import certificates
from backend_stub.operations.policy import Policy
from backend_stub.settings import AuthoritySettings, ProxySettings, ServerSettings
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import chain, contact, credential, parameters
from protocol.credential import Holder
from protocol.curve import open_curve
from protocol.declaration import read_seal_secret
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import Malformed, Misuse, StorageError
from protocol.messages import (
    Head,
    Link,
    Parameters,
    ProxyGroup,
    PublicationKey,
    ServerKey,
    UserIssuer,
)
from protocol.timescale import read_timescale

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.clock import Clock
    from backend_stub.keyring.passphrases import Passphrase
    from backend_stub.settings import Settings
    from protocol.curve import Curve
    from protocol.randomness import Random

OTHER_DATABASE = "give another, or drop its schemas authority and server"
FREE_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backend is to be.

    port: the authority's; server and proxies take the next ones; 0: whatever ports are free. public_url: where agents
    reach a part, with {name} and {port} in it; empty: host and port. tls: whether the parts speak TLS, each with a
    certificate of the backend's own root; system_trust: whether agents verify against their system's roots instead.
    database: a PostgreSQL for authority and
    server, each with a schema of its own in it; empty: SQLite in their folders.
    """

    name: str = "Demo Authority"
    host: str = "127.0.0.1"
    port: int = settings.DEFAULT_PORT
    groups: int = 2
    proxies_per_group: int = 1
    public_url: str = ""
    policy: Policy = field(default_factory=Policy)
    clock: str = ""
    curve: str = ""
    publish_every: float = 3600.0
    pool_wait: float = 1.0
    tls: bool = True
    system_trust: bool = False
    database: str = ""


@dataclass(frozen=True, slots=True)
class Founded:
    """What an operator must know of a new backend; `proxies`: URLs by name."""

    authority: str
    fingerprint: str
    server: str
    proxies: dict[str, str]


async def found(
    folder: Path,
    plan: Plan,
    random: Random = secrets.token_bytes,
    clock: Clock | None = None,
    passphrase: Passphrase = b"",
) -> Founded:
    """Make a backend in this folder, whole or not at all. Raises Misuse where there is something already.

    passphrase: what its keys are sealed under; empty: they are plain.
    """
    if not 1 <= plan.groups <= 64 or not 1 <= plan.proxies_per_group <= 64:
        raise Misuse("a backend has 1 to 64 groups with 1 to 64 proxies each")
    if plan.pool_wait < 0:
        raise Misuse("a pool_wait is 0 seconds or more; choose another")
    with in_place(folder) as building:
        return await _Founding(building, plan, open_curve(plan.curve or None), random, passphrase).build(clock)


@contextmanager
def in_place(folder: Path) -> Iterator[Path]:
    """A private folder to build in, which becomes `folder` if all goes well and vanishes if not."""
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misuse(f"{folder} exists and is not empty; choose another folder, or run what is there: spot-backend up")
    building = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(building, ignore_errors=True)
        keys.make_private(building)
        yield building
        if folder.exists():
            for part in building.iterdir():
                part.rename(folder / part.name)
        else:
            building.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); choose another folder, or make room") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


class _Founding:
    """The making of one backend in a folder that is not in use yet."""

    def __init__(self, folder: Path, plan: Plan, curve: Curve, random: Random, passphrase: Passphrase) -> None:
        self._folder = folder
        self._plan = plan
        self._curve = curve
        self._random = random
        self._passphrase = passphrase

    async def build(self, clock: Clock | None) -> Founded:
        """Make every part's folder."""
        plan = self._plan
        clock = clock or ScaledClock(read_timescale(plan.clock or "1@0"))
        groups = [new_group(self._curve, self._random, f"group-{number}") for number in range(1, plan.groups + 1)]
        homes = {f"{group.name}-{number + 1}": group for group in groups for number in range(plan.proxies_per_group)}
        names = (FOLDER, "server", *homes)
        ports = dict(zip(names, _ports(plan, len(names)), strict=True))
        public = {name: self._public_url(name, ports[name]) for name in names}
        for part in (FOLDER, "server", *map(proxy_folder, homes)):
            keys.make_private(self._folder / part)
            if self._passphrase:  # before the first key is written
                sealing.seal_all(self._folder / part, self._passphrase)
        root = certificates.new_root(self._random, self._folder / FOLDER) if plan.tls else b""
        shared: dict[str, Any] = {"host": plan.host, "clock": plan.clock, "curve": plan.curve, "tls": plan.tls}
        authority = AuthoritySettings(
            port=ports[FOLDER],
            name=plan.name,
            public_url=public[FOLDER],
            publish_every=plan.publish_every,
            database=plan.database,
            declaration_wait=2 * plan.pool_wait,
            **shared,
        )
        settings.write(self._folder / FOLDER, authority)
        places = tuple(
            ProxyGroup(
                name=group.name,
                key=group.public,
                proxies=tuple(public[name] for name, home in homes.items() if home is group),
            )
            for group in groups
        )
        genesis = self._genesis(clock, places, (root,) if plan.tls and not plan.system_trust else ())
        head = parameters.begin(genesis).head
        local = {name: settings.local_url(plan.host, ports[name], tls=plan.tls) for name in names}
        follower = shared | {"authority": [local[FOLDER]], "genesis": head.hash.hex()}
        settings.write(
            self._folder / "server", ServerSettings(port=ports["server"], database=plan.database, **follower)
        )
        for name, group in homes.items():
            own: dict[str, Any] = {
                "name": name,
                "group": group.name,
                "server": [local["server"]],
                "pool_wait": plan.pool_wait,
            }
            settings.write(self._folder / proxy_folder(name), ProxySettings(port=ports[name], **own, **follower))
        members = [
            new_proxy(self._curve, self._random, group, self._folder / proxy_folder(name), name, public[name])
            for name, group in homes.items()
        ]
        for group in groups:
            keys.write_issuer(self._folder / FOLDER, group.name, group.secret)
        if plan.tls:
            self._equip(authority, public, homes)
        await self._begin(head, genesis, members)
        proxies = {name: public[name] for name in homes}
        return Founded(public[FOLDER], chain.fingerprint(head.hash), local["server"], proxies)

    def _equip(self, told: Settings, public: Mapping[str, str], proxies: Iterable[str]) -> None:
        home = self._folder / FOLDER
        for name in (FOLDER, "server"):
            hosts = certificates.hosts_of(told, public[name])
            certificates.equip(self._random, home, self._folder / name, hosts)
        for name in proxies:
            hosts = certificates.hosts_of(told, public[name])
            certificates.equip(self._random, home, self._folder / proxy_folder(name), hosts, public[name])

    async def _begin(self, head: Head, genesis: Link, members: Sequence[dict[str, Any]]) -> None:
        """What the databases begin with. Raises Misuse where they began already."""

        async def work(connection: AsyncConnection) -> None:
            now = await chains.head(connection, chains.PARAMETERS)
            if now == chain.EMPTY:
                await chains.append(connection, chains.PARAMETERS, head, genesis)
                await connection.execute(insert(tables.proxies), members)
            elif now != head:
                raise Misuse(f"there is a backend in this database already; {OTHER_DATABASE}")

        async def look(connection: AsyncConnection) -> None:
            if (await connection.execute(select(tables.submissions.c.day).limit(1))).first() is not None:
                raise Misuse(f"there are submissions to another backend in this database; {OTHER_DATABASE}")

        url = self._plan.database
        if url:  # else the server makes its own file
            async with db.opened(self._folder, tables.SERVER, url) as database:
                await database.run(look)
        async with db.opened(self._folder / FOLDER / DATABASE, tables.AUTHORITY, url) as database:
            await database.run(work)

    def _genesis(self, clock: Clock, groups: tuple[ProxyGroup, ...], roots: tuple[bytes, ...]) -> Link:
        """The first parameters; all secret keys that belong to them go to their folders. Raises Misuse."""
        home, plan, policy = self._folder / FOLDER, self._plan, self._plan.policy
        signing = {name: self._random(32) for name in ("chain", "publication")}
        chain_key, publication_key = (Ed25519PrivateKey.from_private_bytes(one) for one in signing.values())
        seal_seed = self._random(keys.SEAL_SEED)
        user_secret, user_public = credential.new_issuer(self._curve, self._random, Holder.USER)
        server_secret, server_key = contact.new_server_key(self._curve, self._random)
        now, day = int(clock.now()), today(clock)
        genesis = Parameters(
            number=0,
            previous=chain.EMPTY.hash,
            issued_at=now,
            valid_until=now + settings.PARAMETERS_DAYS * SECONDS_A_DAY,
            authority=plan.name,
            chain_key=chain_key.public_key().public_bytes_raw(),
            publication_keys=(PublicationKey(first=0, key=publication_key.public_key().public_bytes_raw()),),
            seal_key=read_seal_secret(seal_seed).public,
            server_keys=(ServerKey(number=1, from_time=now, key=server_key),),
            issuers=(
                UserIssuer(
                    number=1,
                    from_day=day - policy.limits.first_seen_days,
                    until_day=day + settings.ISSUER_DAYS - 1,
                    key=user_public,
                ),
            ),
            groups=groups,
            limits=policy.limits,
            risk=policy.risk,
            onset=policy.onset,
            roots=roots,
        )
        signed = parameters.sign(chain_key, genesis)
        try:
            parameters.begin(signed)
        except Malformed as error:
            raise Misuse(error.text) from None
        nonce = self._random(keys.NONCE_SIZE)
        for name, secret in (*signing.items(), ("seal", seal_seed), (keys.NONCE, nonce)):
            keys.write(home, name, secret)
        keys.write_issuer(home, keys.issuer_file(1), user_secret)
        keys.write_server(self._folder / "server", server_secret)
        return signed

    def _public_url(self, name: str, port: int) -> str:
        template = self._plan.public_url.rstrip("/")
        if not template:
            return settings.local_url(self._plan.host, port, tls=self._plan.tls)
        if self._plan.tls and template.startswith("http:"):
            raise Misuse("agents would be sent to http://, where the parts speak TLS; write https://, or add --no-tls")
        if "{name}" not in template and "{port}" not in template:
            template += "/{name}"
        return template.replace("{name}", name).replace("{port}", str(port))


def _ports(plan: Plan, count: int) -> list[int]:
    if plan.port:
        if plan.port + count > 65536:
            raise Misuse(f"{count} parts do not fit above port {plan.port}; choose a lower one")
        return list(range(plan.port, plan.port + count))
    with ExitStack() as held:  # all held at once, so that no port is given out twice
        return [_free_port(plan.host, held) for _ in range(count)]


def _free_port(host: str, held: ExitStack) -> int:
    # Below those that systems give to outgoing connections, so that a part which stops finds its port free again.
    for port in secrets.SystemRandom().sample(FREE_PORTS, len(FREE_PORTS)):
        with suppress(OSError):
            held.enter_context(socket.create_server((host, port)))
            return port
    raise Misuse(f"there is no free port at {host}; check that this is a host of this machine")
