"""The health authority with its group managers: registers users, takes reports, publishes exposures."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web as http
from sqlalchemy import exists, func, select

from backend_stub import settings
from backend_stub.authority import chains, files, join, report, rotation, taking
from backend_stub.authority.progress import STALE
from backend_stub.authority.workers import Workers
from backend_stub.clock import today
from backend_stub.keyring import keys
from backend_stub.network import renewal, web
from backend_stub.network.identity import Identity
from backend_stub.network.problems import NotFound
from backend_stub.network.rates import Rate, Room
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import messages, parameters
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import SpotError, StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.join import Nonces
    from backend_stub.clock import Clock
    from backend_stub.network.metrics import Metrics
    from backend_stub.settings import AuthoritySettings
    from backend_stub.storage.database import Database
    from protocol.curve import Curve
    from protocol.messages import Parameters
    from protocol.parameters import Keys, Trusted
    from protocol.randomness import Random

log = logging.getLogger(__name__)

FOLDER = "authority"
DATABASE = "authority.db"
REQUIRED = ("chain", "publication", "seal", keys.NONCE)  # keys without which it does not start
RENEW_EVERY = 3600.0  # s
WARM_AFTER = 5.0  # real seconds
CODES_KEPT = (
    60 * SECONDS_A_DAY
)  # after codes and invitations expire: people are told so, and a repeated report gets its answer
JOIN_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Current:
    """The newest parameters with the keys in them."""

    trusted: Trusted
    keys: Keys


@dataclass(slots=True)
class Authority:
    """All that the authority works with; the command line has one on the same database while it runs.

    under_way: the checks of reports that are not over, by the reports' digests.
    """

    folder: Path
    told: AuthoritySettings
    clock: Clock
    curve: Curve
    random: Random
    database: Database
    workers: Workers
    under_way: dict[bytes, asyncio.Task[bytes | None]] = field(default_factory=dict)
    _current: Current | None = field(default=None, repr=False)

    @property
    def nonces(self) -> Nonces:
        """Nonces for joins, the same in all processes of the authority. Raises StorageError."""
        return join.Nonces(self.random, keys.read(self.folder, keys.NONCE, keys.NONCE_SIZE))

    async def current(self) -> Current:
        """The newest parameters, whoever appended them."""
        trusted = await self.database.run(chains.newest)
        if self._current is None or self._current.trusted.head != trusted.head:
            known = await asyncio.to_thread(parameters.read_keys, self.curve, trusted.parameters)
            self._current = Current(trusted, known)
        return self._current

    async def clean(self) -> None:
        """Forget what nothing can depend on any more."""
        now, day = self.clock.now(), today(self.clock)
        retention = (await self.current()).trusted.parameters.limits.retention_days
        codes, reports, invitations, members = tables.codes, tables.reports, tables.invitations, tables.members
        # As long as parameters that a report was made by are valid, it may be sent again, and must get the same answer.
        expired = codes.c.expires_at < now - max(CODES_KEPT, self.told.parameters_days * SECONDS_A_DAY)
        await self.database.forget(reports, reports.c.code.in_(select(codes.c.hash).where(expired)))
        await self.database.forget(codes, expired)
        await self.database.forget(tables.reported, tables.reported.c.day < day - retention)
        await self.database.run(partial(join.forget, told=self.told, now=now, retention=retention))
        unused = ~exists().where(members.c.invitation == invitations.c.hash)
        await self.database.forget(invitations, invitations.c.expires_at < now - CODES_KEPT, unused)
        await self.database.forget(tables.invited, tables.invited.c.expires_at < now - CODES_KEPT)
        await self.database.forget(tables.checks, tables.checks.c.began_at < now - STALE)
        await self.database.settle(tables.reported, tables.tokens)


@asynccontextmanager
async def opened(
    folder: Path, clock: Clock | None = None, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[Authority]:
    """The authority of this folder, to work with. changes: to its settings. Raises SpotError."""
    told = settings.read(settings.AuthoritySettings, folder, changes)
    clock = clock or told.open_clock()
    if not told.database and not (folder / DATABASE).exists():
        raise StorageError(f"{folder / DATABASE} is missing; bring it back from a copy, or make a new backend")
    opened = db.opened(folder / DATABASE, tables.AUTHORITY, told.database)
    async with opened as database, Workers(told.workers) as workers:
        authority = Authority(
            folder=folder,
            told=told,
            clock=clock,
            curve=told.open_curve(),
            random=secrets.token_bytes,
            database=database,
            workers=workers,
        )
        try:
            yield authority
        finally:
            await taking.stop(authority)


class Desk:
    """What the authority answers over HTTP."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._joins = Rate(authority.told.joins_a_second, by_network=True)
        self._declarations = Rate(authority.told.declarations_a_second)
        self._room = Room(authority.told.reports_mib << 20)

    async def nonce(self, request: http.Request) -> http.Response:
        """A nonce for a join."""
        self._joins.check(request)
        return web.answer(messages.Nonce(nonce=self._authority.nonces.fresh(self._authority.clock.now())))

    async def join(self, request: http.Request) -> http.Response:
        """A credential for whoever has an invitation."""
        self._joins.check(request)
        body = await web.read_body(request, JOIN_LIMIT)
        return web.answer_bytes(await join.join(self._authority, body))

    async def renewal(self, request: http.Request) -> http.Response:
        """A credential under a later issuer for whoever is a member."""
        self._joins.check(request)
        body = await web.read_body(request, JOIN_LIMIT)
        return web.answer_bytes(await join.renew(self._authority, body))

    async def declaration(self, request: http.Request) -> http.Response:
        """A sealed receipt for a sealed report."""
        web.check_proxy(request, (await self._authority.current()).trusted.parameters)
        self._declarations.check(request)  # strangers use up nothing of it
        with ExitStack() as room:
            take = room.enter_context(self._room.taken())
            taken = await taking.take(
                self._authority,
                await web.read_message(request, messages.SealedReport, web.DECLARATION_LIMIT, take),
                room,
            )
        return web.answer_bytes(await taken.answer())

    async def heads(self, request: http.Request) -> http.Response:
        """How far the two chains go."""
        heads = await self._authority.database.run(chains.heads)
        return web.answer_kept(request, messages.encode(heads), web.HEADS_SECONDS)

    async def parameters(self, request: http.Request) -> http.Response:
        """A link of the parameters chain."""
        return await self._link(chains.PARAMETERS, request)

    async def publications(self, request: http.Request) -> http.Response:
        """A link of the publications chain."""
        return await self._link(chains.PUBLICATIONS, request)

    async def _link(self, name: str, request: http.Request) -> http.Response:
        number = web.number_in(request)
        link = await self._authority.database.run(lambda connection: chains.link(connection, name, number))
        if link is None:
            raise NotFound("the chain does not go so far (yet); ask for its head")
        return web.answer_kept(request, messages.encode(link), web.LINK_SECONDS)


async def _publish_for_ever(authority: Authority) -> None:
    while True:
        await authority.clock.sleep(authority.told.publish_every)
        try:
            await chains.publish(authority)
        except SpotError as error:
            log.warning("nothing was published; it is tried again: %s", error.text)


async def _renew_for_ever(authority: Authority) -> None:
    # Each by itself: what is old has to go whatever else fails.
    while True:
        for work in (
            chains.renew,
            _renew_certificates,
            Authority.clean,
            chains.forget_publications,
            rotation.tidy,
        ):
            try:
                await work(authority)
            except SpotError as error:
                log.warning("the hourly round is not complete; it is tried again: %s", error.text)
        await authority.clock.sleep(RENEW_EVERY)


async def _renew_certificates(authority: Authority) -> None:
    """Renew what is due of the parts beside this one; under systemd only the authority's own can be written."""
    listed = parameters.proxy_urls((await authority.current()).trusted.parameters)
    for part in _beside(authority.folder):
        try:
            await asyncio.to_thread(renewal.renew_due, authority.folder, part, listed)
        except SpotError as error:
            log.warning(
                "renew the certificate of %s: spot-backend certificates DIR --renew (%s)", part.name, error.text
            )


async def _ready(authority: Authority, metrics: Metrics) -> None:
    """Raises what keeps it from its work."""

    async def look(connection: AsyncConnection) -> tuple[Parameters, int | None]:
        count = await connection.scalar(select(func.count()).select_from(tables.tokens))
        return (await chains.newest(connection)).parameters, count

    now, tokens = await authority.database.run(look)
    metrics.tokens.set(tokens or 0)
    metrics.age.set(max(0.0, authority.clock.now() - now.issued_at))
    parameters.check_validity(now, authority.clock.now())


def _beside(folder: Path) -> list[Path]:
    """The parts whose folders are beside the authority's, and itself."""
    return [file.parent for file in folder.parent.glob(f"*/{settings.FILE}")]


async def _warm_up(authority: Authority) -> None:
    """Have the workers there before the first long report, and after everything that a start has to do first."""
    await asyncio.sleep(WARM_AFTER)
    try:
        await report.warm_up(authority)
    except SpotError as error:
        log.warning("no worker process can begin, so long reports must wait: %s", error.text)


@asynccontextmanager
async def serving(
    folder: Path, clock: Clock | None = None, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[None]:
    """The authority of this folder, answering. changes: to its settings. Raises SpotError where it cannot start."""
    async with opened(folder, clock, changes) as authority:
        keys.check(folder, *REQUIRED)
        desk = Desk(authority)
        identity = Identity(folder, authority.told)
        app = web.application(
            [
                http.post(messages.NONCE_PATH, desk.nonce),
                http.post(messages.JOIN_PATH, desk.join),
                http.post(messages.RENEWAL_PATH, desk.renewal),
                http.post(messages.DECLARATION_PATH, desk.declaration),
                http.get(messages.HEADS_PATH, desk.heads),
                http.get(web.numbered(messages.PARAMETERS_PATH), desk.parameters),
                http.get(web.numbered(messages.PUBLICATIONS_PATH), desk.publications),
            ],
            authority.told,
        )
        metrics = app[web.METRICS]
        authority.database.took = metrics.database.observe
        at = web.answering(app, authority.told, FOLDER, identity.answering, partial(_ready, authority, metrics))
        work = (
            _publish_for_ever(authority),
            _renew_for_ever(authority),
            files.keep_for_ever(authority),
            _warm_up(authority),
            identity.watch(),
        )
        async with web.background(*work), at:
            yield
