"""Keeping what was measured: encounters under way go into the store again and again, old ones out of it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.store import State
from protocol.errors import SpotError

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Callable, Iterable

    from agent.clock import Clock
    from agent.epochs import OwnEpoch
    from agent.proximity import Proximity
    from agent.store import Encounter, Store
    from protocol.messages import Limits

LOG = logging.getLogger(__name__)

MOST_UNKEPT = 4096
"""Encounters that wait in memory while the disk takes nothing: some 80 MB of two weeks' worth of most people."""


class Keeper:
    """Writes one agent's encounters down. What the disk does not take now stays in memory and is tried again."""

    def __init__(
        self,
        store: Store,
        proximity: Proximity,
        limits: Callable[[], Limits],
        chance: chances.Random,
        clock: Clock,
    ) -> None:
        """limits: those in force. disk_problem: why the disk takes nothing now; lost: encounters, for that reason."""
        self._store = store
        self._proximity = proximity
        self._limits = limits
        self._chance = chance
        self._clock = clock
        self._unkept: dict[bytes, Encounter] = {}
        self._forgot_day = 0
        self.disk_problem = ""
        self.lost = 0

    def recover(self) -> None:
        """Take up what a run that ended without warning left."""
        self._store.recover(self._limits().minimum, self._draw_due)

    def keep(self, over: Iterable[OwnEpoch]) -> None:
        """Keep what is new; the encounters of epochs that are over are to be submitted, if they are long enough."""
        minimum = self._limits().minimum
        for one in self._proximity.changed():
            self._unkept[one.secret] = one
        for one in self._proximity.finish(over):
            long_enough = one.span >= minimum
            self._unkept[one.secret] = (
                replace(one, state=State.WAITING, due=self._draw_due()) if long_enough else replace(one, samples=())
            )
        if not self._unkept:
            return
        try:
            self._store.keep_encounters(one for one in self._unkept.values() if one.samples)
            for one in self._unkept.values():
                if not one.samples:
                    self._store.drop_encounter(one.secret)
        except SpotError as error:
            if error.text != self.disk_problem:
                LOG.error("store: %s", error)  # noqa: TRY400 (an expected error, no traceback)
            self.disk_problem = error.text
            self._give_up_shortest()
            return
        if self.disk_problem:
            LOG.info("store: works again")
        self.disk_problem = ""
        self._unkept.clear()

    @property
    def unkept(self) -> int:
        """How many encounters wait in memory until the disk takes them."""
        return len(self._unkept)

    def _give_up_shortest(self) -> None:
        """Have no more wait than there is memory for: the longest encounters matter most, made-up ones are short."""
        for one in sorted(self._unkept.values(), key=lambda one: one.span)[: max(len(self._unkept) - MOST_UNKEPT, 0)]:
            del self._unkept[one.secret]
            self.lost += bool(one.samples)

    def forget(self, today: int) -> None:
        """Delete what is older than the retention; once a day. today: a day that has surely come (`agent.days`)."""
        if today != self._forgot_day:
            with contextlib.suppress(SpotError):  # tried again the next time
                self._store.forget_before(today - self._limits().retention_days)
                self._forgot_day = today

    def _draw_due(self) -> float:
        return self._clock.now() + self._chance.uniform(0, self._limits().delay)
