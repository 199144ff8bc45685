"""The server: matches the two sides of a CCM and signs partially for both (*S_PSign*).

It knows nullifiers, CCMs and days, and neither who stands behind a nullifier nor which belong together.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web as http
from sqlalchemy import select

from backend_stub import settings
from backend_stub.clock import today
from backend_stub.following.checking import check_submissions, refusal_of
from backend_stub.following.parameters import Follower
from backend_stub.following.signing import SERVER, ServerKeys
from backend_stub.keyring import keys
from backend_stub.network import web
from backend_stub.network.calling import session
from backend_stub.network.identity import Identity
from backend_stub.server import matching, quota
from backend_stub.server.matching import Entry
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import contact, messages
from protocol.encounter import day_of
from protocol.errors import SpotError
from protocol.messages import Outcome, Outcomes, Partial, Submission, Submissions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from backend_stub.clock import Clock
    from backend_stub.following.parameters import Known
    from backend_stub.storage.database import Database
    from protocol.curve import Curve
    from protocol.randomness import Random

log = logging.getLogger(__name__)

DATABASE = "server.db"
BODY_LIMIT = 1 << 20
CLEAN_EVERY = 600.0  # s


class Server:
    """What the server's one handler works with."""

    def __init__(
        self, own: ServerKeys, database: Database, follower: Follower, curve: Curve, clock: Clock, random: Random
    ) -> None:
        self._own = own
        self._database = database
        self._follower = follower
        self._curve = curve
        self._clock = clock
        self._random = random

    async def partial(self, request: http.Request) -> http.Response:
        """One outcome for each submission; a bad one does not hurt the others."""
        web.check_proxy(request, self._follower.known().parameters)
        asked = await web.read_message(request, Submissions, BODY_LIMIT)
        outcomes = await self.outcomes(asked.submissions)
        refused, signed = (
            sum(one.refusal is not None for one in outcomes),
            sum(one.partial is not None for one in outcomes),
        )
        pending = len(outcomes) - refused - signed
        counts = {"verified": len(outcomes) - refused, "refused": refused, "signed": signed, "pending": pending}
        request.app[web.METRICS].submissions(**counts)
        return web.answer(Outcomes(outcomes=tuple(outcomes)))

    async def ready(self) -> None:
        """Raises what keeps it from its work."""
        self._follower.known()
        await self._database.run(lambda connection: connection.execute(select(1)))

    async def outcomes(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Verify, record, and sign where there are two sides."""
        known = self._follower.known()
        refusals = await asyncio.to_thread(check_submissions, self._curve, self._random, known, submissions)
        matched = await self._record(known, submissions, refusals)
        return await asyncio.to_thread(self._sign, known, submissions, matched, refusals)

    async def _record(
        self, known: Known, submissions: Sequence[Submission], refusals: dict[int, SpotError]
    ) -> set[int]:
        """Which are to be signed."""
        limits = known.parameters.limits
        refusals |= quota.misdated(submissions, today(self._clock))
        good = [index for index in range(len(submissions)) if index not in refusals]
        entries = [_entry(submissions[index]) for index in good]
        first_day = today(self._clock) - limits.first_seen_days
        last_day = day_of(self._clock.now() + limits.clock_tolerance)
        results = await matching.match(self._database, entries, first_day, last_day) if entries else []
        refusals |= {index: one for index, one in zip(good, results, strict=True) if isinstance(one, SpotError)}
        return {index for index, one in zip(good, results, strict=True) if one is True}

    def _sign(
        self,
        known: Known,
        submissions: Sequence[Submission],
        matched: set[int],
        refusals: dict[int, SpotError],
    ) -> list[Outcome]:
        outcomes = []
        number, secret = self._own.current(known)
        for index, one in enumerate(submissions):
            partial = None
            if index in matched:
                nullifier = contact.nullifier_of(one)
                signature = contact.sign_partially(self._curve, secret, one.ccm, one.day, nullifier)
                partial = Partial(server=number, signature=signature)
            refusal = refusal_of(refusals[index]) if index in refusals else None
            outcomes.append(Outcome(partial=partial, refusal=refusal))
        return outcomes

    async def clean(self) -> None:
        """Forget what nothing depends on any more, also where the authority is gone for good."""
        limits = self._follower.last().parameters.limits
        await matching.forget(self._database, today(self._clock), limits)
        await quota.forget(self._database, self._clock.now(), limits)
        await self._database.settle()

    async def clean_for_ever(self) -> None:
        """Clean now and then."""
        while True:
            await self._clock.sleep(CLEAN_EVERY)
            try:
                await self.clean()
                self._own.tidy(self._follower.last())
            except SpotError as error:
                log.warning("old submissions are not forgotten yet: %s", error.text)


def _entry(one: Submission) -> Entry:
    return Entry(one.ccm, contact.nullifier_of(one), one.day, quota.use_of(one))


@asynccontextmanager
async def serving(
    folder: Path, clock: Clock | None = None, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[None]:
    """The server of this folder, answering. changes: to its settings. Raises SpotError where it cannot start."""
    told = settings.read(settings.ServerSettings, folder, changes)
    clock = clock or told.open_clock()
    curve = told.open_curve()
    keys.check(folder, SERVER)
    identity = Identity(folder, told)
    opened = db.opened(folder / DATABASE, tables.SERVER, told.database)
    async with opened as database, session(identity.calling) as asking:
        follower = Follower(folder, told, asking, curve, clock)
        server = Server(ServerKeys(folder, curve, clock), database, follower, curve, clock, secrets.token_bytes)
        app = web.application([http.post(messages.PARTIAL_PATH, server.partial)], told)
        work = (follower.run(), server.clean_for_ever(), identity.watch())
        metrics = app[web.METRICS]
        database.took = metrics.database.observe
        metrics.age.set_function(follower.age)
        at = web.answering(app, told, "server", identity.answering, server.ready)
        async with web.background(*work):
            await follower.begin()
            async with at:
                yield
