"""Sending reports at drawn moments, and dummies when there is none: declaring is nothing that a watcher could see.

Nothing of it is logged: a log would tell who reads it that this device's owner was diagnosed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from agent.report import Reporter
from agent.slots import Slot, Slots
from protocol.errors import SpotError

if TYPE_CHECKING:
    import random as chances

    from agent.account import Member
    from agent.clock import Clock
    from agent.store import Store
    from agent.sync import Progress
    from protocol.curve import Curve

SLOT = "declaration slot"  # names in the store
TRIED = "declaration tried"
WITHOUT_COVER = 3600.0  # s, the stretch with one try of a report that could not be sent at once


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """The last try at sending a report that was not answered. at: seconds since 1970."""

    at: float
    problem: str


def next_moment(store: Store) -> float:
    """When the running agent declares next, or sends a dummy; 0 where that is not known."""
    slot = store.get(SLOT, Slot)
    return slot.at if slot else 0.0


class Declaring:
    """One agent's reports that wait for their moment."""

    def __init__(
        self, curve: Curve, chance: chances.Random, wire: chances.Random, store: Store, clock: Clock, member: Member
    ) -> None:
        """chance: a cryptographic source; wire: one of what is seen on the network only."""
        self._store = store
        self._clock = clock
        self._member = member
        self._reporter = Reporter(curve, chance, store, clock, wire)
        self._slots = Slots(SLOT, wire, store, clock)

    def next_at(self) -> float:
        """When something goes out next, seconds since 1970."""
        if not self._cover and self._reporter.queued() is None:
            return math.inf
        return self._slots.next_at(self._cover or WITHOUT_COVER)

    async def act(self, progress: Progress) -> None:
        """Use the moment, if it has come, for the oldest report without an answer, else for a dummy."""
        if not self._slots.take(self._cover or WITHOUT_COVER):
            return
        stored = self._reporter.queued()
        problem = ""
        try:
            if stored is not None and not self._reporter.has_run_out(stored):
                await self._reporter.send(stored)
            elif self._cover:
                progress.dummies += 1
                await self._reporter.pretend()
        except SpotError as error:
            problem = error.text
        if stored is not None:  # what the authority says is kept with the report
            unanswered = problem and self._reporter.queued() is not None
            self._store.put(TRIED, Tried(at=self._clock.now(), problem=problem) if unanswered else None)

    @property
    def _cover(self) -> float:
        return self._member.account.parameters.limits.declaration_gap
