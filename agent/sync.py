"""The network side of the agent: follows the authority's chains, submits contacts, asks again while they are pending.

What is private about it: every request travels on a connection of its own; every contact goes through a proxy drawn
for it, at a time drawn for it; the heads of both chains are compared over two groups.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec

from agent import account, renewal
from agent.drawing import backoff
from agent.following import SYNC, Following, SyncStatus, read_status
from agent.submitting import RETRY_FIRST, RETRY_LAST, Submitting
from protocol import parameters
from protocol.errors import SpotError

if TYPE_CHECKING:
    import random as chances

    from agent.account import Account
    from agent.clock import Clock
    from agent.store import Store
    from protocol.curve import Curve

LOG = logging.getLogger(__name__)

REFRESH = 3600.0  # seconds between two looks at the chains


class Progress(msgspec.Struct, kw_only=True):
    """What one step did."""

    submitted: int = 0
    signed: int = 0
    pending: int = 0
    failed: int = 0
    publications: int = 0
    exposures: int = 0


class Sync:
    """One agent's dealings with the backend. Raises nothing expected: problems go into the store, to be shown."""

    def __init__(self, curve: Curve, chance: chances.Random, store: Store, clock: Clock) -> None:
        """chance: a cryptographic source, such as `random.SystemRandom()`."""
        self._curve = curve
        self._chance = chance
        self._store = store
        self._clock = clock
        self._member = account.Member(curve, store)
        self._following = Following(curve, chance, store, clock, self._member)
        self._submitting = Submitting(curve, chance, store, clock, self._member)

    @property
    def account(self) -> Account:
        """The account with the parameters now in force. Raises NotJoined, Moved."""
        return self._member.account

    def status(self) -> SyncStatus:
        """How the last look went."""
        return read_status(self._store)

    def next_step(self) -> float:
        """When there is something to do next, seconds since 1970."""
        due = self._store.next_due()
        refresh = self.status().refresh_at
        return refresh if due is None else min(due, refresh)

    async def step(self, *, refresh: bool = False) -> Progress:
        """Do everything that is due; `refresh`: look at the chains even if it is not time. Raises Moved."""
        account.check_not_moved(self._store)
        progress = Progress()
        if refresh or self._clock.now() >= self.status().refresh_at:
            await self._look(progress)
        await self._submitting.submit_due(progress)
        return progress

    async def _look(self, progress: Progress) -> None:
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
                refresh_at=now + backoff(self._chance, failures, RETRY_FIRST, RETRY_LAST),
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
                refresh_at=now + REFRESH * self._chance.uniform(0.75, 1.25),
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
