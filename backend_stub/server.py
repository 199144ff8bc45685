"""The server: matches the two sides of a CCM and signs partially for both (*S_PSign*).

It knows nullifiers, CCMs and days, and neither who stands behind a nullifier nor which belong together.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web as http
from sqlalchemy import bindparam, delete, insert, select, update

from backend_stub import keys, settings, store, web
from backend_stub.calling import session
from backend_stub.certificates import Identity
from backend_stub.checking import check_submissions
from backend_stub.clock import today
from backend_stub.following import Follower
from backend_stub.listening import listening
from protocol import contact, messages
from protocol.encounter import day_of
from protocol.errors import Refused, SpotError
from protocol.messages import Outcome, Outcomes, Partial, Submission, Submissions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.clock import Clock
    from backend_stub.following import Known
    from backend_stub.store import Database
    from protocol.contact import ServerSecret
    from protocol.curve import Curve
    from protocol.randomness import Random

log = logging.getLogger(__name__)

DATABASE = "server.db"
BODY_LIMIT = 1 << 20
CLEAN_EVERY = 600.0  # s
REFUSAL_LENGTH = 300  # characters


@dataclass(slots=True)
class Side:
    """One nullifier that stands for a CCM: its day, and the day it is signed for once there is another side."""

    day: int
    signed_day: int | None = None


@dataclass(slots=True)
class Matches:
    """The sides known of one CCM, and what changed about them since they were read."""

    sides: dict[bytes, Side] = field(default_factory=dict)
    fresh: set[bytes] = field(default_factory=set)
    fixed: set[bytes] = field(default_factory=set)

    def enter(self, nullifier: bytes, day: int, first_day: int, last_day: int) -> None:
        """Record a side. Raises Refused for a second day, or a first-seen nullifier outside first_day..last_day."""
        known = self.sides.get(nullifier)
        if known is not None:
            if known.day != day:
                raise Refused("this contact was submitted for another day before; keep to that day")
            return
        if not first_day <= day <= last_day:
            raise Refused("this contact's day is too long ago or in the future; check the device's clock")
        self.sides[nullifier] = Side(day)
        self.fresh.add(nullifier)
        self._fix()

    def _fix(self) -> None:
        # Two sides get the smaller of their days. It is fixed for each side and not for the CCM, so that a third
        # nullifier, of somebody who saw the CCM, cannot move the day away from the true other side.
        for nullifier, side in self.sides.items():
            if side.signed_day is None:
                near = [
                    one.day for name, one in self.sides.items() if name != nullifier and abs(one.day - side.day) <= 1
                ]
                if near:
                    side.signed_day = min(side.day, *near)
                    self.fixed.add(nullifier)


class Server:
    """What the server's one handler works with."""

    def __init__(
        self, secret: ServerSecret, database: Database, follower: Follower, curve: Curve, clock: Clock, random: Random
    ) -> None:
        self._secret = secret
        self._database = database
        self._follower = follower
        self._curve = curve
        self._clock = clock
        self._random = random

    async def partial(self, request: http.Request) -> http.Response:
        """One outcome for each submission; a bad one does not hurt the others."""
        web.check_proxy(request, self._follower.known().parameters)
        asked = await web.read_message(request, Submissions, BODY_LIMIT)
        return web.answer(Outcomes(outcomes=tuple(await self.outcomes(asked.submissions))))

    async def outcomes(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Verify, record, and sign where there are two sides."""
        known = self._follower.known()
        refusals = await asyncio.to_thread(check_submissions, self._curve, self._random, known, submissions)
        good = [index for index in range(len(submissions)) if index not in refusals]
        signed_days = await self._record(known, submissions, good, refusals)
        return await asyncio.to_thread(self._sign, submissions, signed_days, refusals)

    async def _record(
        self, known: Known, submissions: Sequence[Submission], good: Sequence[int], refusals: dict[int, SpotError]
    ) -> dict[int, int | None]:
        limits = known.parameters.limits
        first_day = today(self._clock) - limits.first_seen_days
        last_day = day_of(self._clock.now() + limits.clock_tolerance)
        async with self._database.transaction() as connection:
            matches = await _read(connection, {submissions[index].ccm for index in good})
            for index in good:
                one = submissions[index]
                try:
                    matches[one.ccm].enter(contact.nullifier_of(one), one.day, first_day, last_day)
                except Refused as error:
                    refusals[index] = error
            await _write(connection, matches)
        return {
            index: matches[submissions[index].ccm].sides[contact.nullifier_of(submissions[index])].signed_day
            for index in good
            if index not in refusals
        }

    def _sign(
        self, submissions: Sequence[Submission], signed_days: dict[int, int | None], refusals: dict[int, SpotError]
    ) -> list[Outcome]:
        outcomes = []
        for index, one in enumerate(submissions):
            day = signed_days.get(index)
            partial = None
            if day is not None:
                nullifier = contact.nullifier_of(one)
                signature = contact.sign_partially(self._curve, self._secret, one.ccm, day, nullifier)
                partial = Partial(server=1, day=day, signature=signature)
            refusal = refusals[index].text[:REFUSAL_LENGTH] if index in refusals else None
            outcomes.append(Outcome(partial=partial, refusal=refusal))
        return outcomes

    async def clean(self) -> None:
        """Forget what is older than the retention."""
        oldest = today(self._clock) - self._follower.known().parameters.limits.retention_days
        async with self._database.transaction() as connection:
            await connection.execute(delete(store.submissions).where(store.submissions.c.day < oldest))

    async def clean_for_ever(self) -> None:
        """Clean now and then."""
        while True:
            await self._clock.sleep(CLEAN_EVERY)
            try:
                await self.clean()
            except SpotError as error:
                log.warning("old submissions are not forgotten yet: %s", error.text)


async def _read(connection: AsyncConnection, ccms: set[bytes]) -> dict[bytes, Matches]:
    table = store.submissions
    matches: dict[bytes, Matches] = defaultdict(Matches)
    for row in await connection.execute(select(table).where(table.c.ccm.in_(ccms))):
        matches[row.ccm].sides[row.nullifier] = Side(row.day, row.signed_day)
    return matches


async def _write(connection: AsyncConnection, matches: dict[bytes, Matches]) -> None:
    table = store.submissions
    fresh = [
        {"ccm": ccm, "nullifier": name, "day": match.sides[name].day, "signed_day": match.sides[name].signed_day}
        for ccm, match in matches.items()
        for name in match.fresh
    ]
    fixed = [
        {"of_ccm": ccm, "of_nullifier": name, "signed_day": match.sides[name].signed_day}
        for ccm, match in matches.items()
        for name in match.fixed - match.fresh
    ]
    if fresh:
        await connection.execute(insert(table), fresh)
    if fixed:
        this = (table.c.ccm == bindparam("of_ccm"), table.c.nullifier == bindparam("of_nullifier"))
        await connection.execute(update(table).where(*this), fixed)


@asynccontextmanager
async def serving(
    folder: Path, clock: Clock | None = None, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[None]:
    """The server of this folder, answering. changes: to its settings. Raises SpotError where it cannot start."""
    told = settings.read(settings.ServerSettings, folder, changes)
    clock = clock or told.open_clock()
    curve = told.open_curve()
    secret = keys.read_server(folder)
    identity = Identity(folder, told)
    async with store.opened(folder / DATABASE, store.server) as database, session(identity.calling) as asking:
        follower = Follower(told, asking, curve, clock)
        server = Server(secret, database, follower, curve, clock, secrets.token_bytes)
        app = web.application([http.post(messages.PARTIAL_PATH, server.partial)], told)
        work = (follower.run(), server.clean_for_ever(), identity.watch())
        at = listening(app, app[web.DOOR], told, "server", identity.answering)
        async with web.background(*work), at:
            yield
