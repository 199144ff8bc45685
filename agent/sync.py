"""The network side of the agent: follows the authority's chains, submits contacts, asks again while they are pending.

What is private about it: every request travels on a connection of its own; every contact goes through a proxy drawn
for it, at a time drawn for it, in place of a dummy; the heads of both chains are compared over two groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agent import account, renewal
from agent.declaring import Declaring
from agent.drawing import backoff
from agent.following import SYNC, Following, SyncStatus, read_status
from agent.submitting import RETRY_FIRST, RETRY_LAST, Submitting
from protocol import parameters
from protocol.errors import SpotError

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Awaitable, Callable

    from agent.account import Account
    from agent.clock import Clock
    from agent.store import Store
    from protocol.curve import Curve

LOG = logging.getLogger(__name__)

REFRESH = 3600.0  # seconds between two looks at the chains
LONGEST_REFRESH = max(1.25 * REFRESH, RETRY_LAST)  # what is further ahead was drawn by a clock that was


class Progress(msgspec.Struct, kw_only=True):
    """What was done. submitted: real contacts; dummies: messages that only look like them, or like declarations."""

    submitted: int = 0
    signed: int = 0
    pending: int = 0
    failed: int = 0
    publications: int = 0
    exposures: int = 0
    dummies: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of dealings: when there is something to do next, seconds since 1970, and doing it."""

    next_at: Callable[[], float]
    act: Callable[[Progress], Awaitable[None]]


class Sync:
    """One agent's dealings with the backend. Raises nothing expected: problems go into the store, to be shown."""

    def __init__(
        self,
        curve: Curve,
        chance: chances.Random,
        store: Store,
        clock: Clock,
        wire: chances.Random | None = None,
    ) -> None:
        """chance: a cryptographic source, such as `random.SystemRandom()`.

        wire: another one, of which come the times and proxies that are seen on the network, and nothing else.
        """
        self._curve = curve
        self._wire = wire or chance
        self._chance = chance
        self._store = store
        self._clock = clock
        self._member = account.Member(curve, store)
        self._following = Following(curve, self._wire, store, clock, self._member)
        submitting = Submitting(curve, chance, self._wire, store, clock, self._member)
        declaring = Declaring(curve, chance, self._wire, store, clock, self._member)
        self._look = Line(self._look_at, self._look_now)
        self.lines = (
            self._look,
            Line(submitting.next_at, submitting.act),
            Line(declaring.next_at, declaring.act),
        )
        """All of them. Each goes on by itself, so that none waits for what another does with contacts."""

    @property
    def account(self) -> Account:
        """The account with the parameters now in force. Raises NotJoined, Moved."""
        return self._member.account

    def status(self) -> SyncStatus:
        """How the last look went."""
        return read_status(self._store)

    def next_step(self) -> float:
        """When there is something to do next, seconds since 1970."""
        return min(line.next_at() for line in self.lines)

    async def step(self, *, refresh: bool = False) -> Progress:
        """Do everything that is due; `refresh`: look at the chains even if it is not time. Raises Moved."""
        account.check_not_moved(self._store)
        progress = Progress()
        for line in self.lines:
            if (refresh and line is self._look) or self._clock.now() >= line.next_at():
                await line.act(progress)
        return progress

    async def keep_up(self, line: Line, progress: Progress, poll: float) -> None:
        """Do one kind of things for ever, each to the moment.

        poll: real seconds until what another process changed is noticed. A steady round of looks at what is due would
        show on the network how long the last thing took.
        """
        told = ""
        while True:
            wait = poll
            try:
                account.check_not_moved(self._store)
                left = line.next_at() - self._clock.now()
                if left <= 0:
                    await line.act(progress)
                    left = line.next_at() - self._clock.now()
                wait = self._clock.scale.real_seconds(left) if 0 < left < math.inf else poll
                told = ""
            except SpotError as error:
                if error.text != told:
                    LOG.warning("sync: %s", error)
                told = error.text
            await asyncio.sleep(min(wait, poll))

    def _look_at(self) -> float:
        at = self.status().refresh_at
        return at if at - self._clock.now() <= LONGEST_REFRESH else 0.0

    async def _look_now(self, progress: Progress) -> None:
        """Follow the chains, renew the credential if it is time to, and note how it went."""
        now = self._clock.now()
        before = self.status()
        try:
            routes = await self._follow(progress, now)
        except SpotError as error:
            LOG.warning("sync: %s", error)
            failures = before.failures + 1
            status = msgspec.structs.replace(
                before,
                tried=now,
                failures=failures,
                problem=error.text,
                refresh_at=now + backoff(self._wire, failures, RETRY_FIRST, RETRY_LAST),
            )
        else:
            groups = len(self.account.parameters.groups)
            problem = (
                ""
                if routes > 1 or groups < 2
                else ("only one proxy group answers, so keys and publications could not be compared over two routes")
            )
            status = SyncStatus(
                tried=now,
                succeeded=now,
                routes=routes,
                problem=problem,
                refresh_at=now + REFRESH * self._wire.uniform(0.75, 1.25),
            )
        self._store.put(SYNC, status)

    async def _follow(self, progress: Progress, now: float) -> int:
        """Over how many routes the chains could be followed.

        What is wrong with a route is raised last: else whoever spoils one could have the credential run out.
        """
        try:
            routes = await self._following.follow(progress)
        except SpotError:
            with contextlib.suppress(SpotError):
                await self._renew(now)
            raise
        await self._renew(now)
        return routes

    async def _renew(self, now: float) -> None:
        parameters.check_validity(self.account.parameters, now)
        await renewal.renew(self._curve, self._chance, self._store, self.account, now)
