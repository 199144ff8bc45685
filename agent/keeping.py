"""Keeping what was measured: encounters under way go into the store again and again, old ones out of it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.kept import State
from protocol.errors import SpotError

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Callable, Iterable

    from agent.clock import Clock
    from agent.epochs import OwnEpoch
    from agent.kept import Encounter
    from agent.proximity import Proximity
    from agent.store import Store
    from protocol.messages import Limits

LOG = logging.getLogger(__name__)

MOST_AT_ONCE = 256
"""Encounters of an epoch that are submitted. A day has 96 moments for submissions, or up to 768 while many wait:
whoever makes up peers by the thousand would have those who are really there wait for days."""

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
        """limits: those in force.

        disk_problem: why the disk takes nothing now; lost: encounters, for that reason; crowded: left out of a crowd
        """
        self._store = store
        self._proximity = proximity
        self._limits = limits
        self._chance = chance
        self._clock = clock
        self._unkept: dict[bytes, Encounter] = {}
        self._forgot_day = 0
        self.disk_problem = ""
        self.lost = 0
        self.crowded = 0

    def recover(self) -> None:
        """Take up what a run that ended without warning left."""
        self._hand_on(self._store.encounters(state=State.OPEN))
        self._write()

    def keep(self, over: Iterable[OwnEpoch]) -> None:
        """Keep what is new; the encounters of epochs that are over are to be submitted, if they are long enough."""
        for one in self._proximity.changed():
            self._unkept[one.secret] = one
        self._hand_on(self._proximity.finish(over))
        self._write()

    def _hand_on(self, ended: Iterable[Encounter]) -> None:
        """Have those of them submitted that matter most; what is too short, or of a crowd too large, is dropped."""
        once = {one.secret: one for one in sorted(ended, key=_presence)}  # of one that came back, the longer part
        minimum = self._limits().minimum
        long_enough = [one for one in reversed(once.values()) if one.samples and one.span >= minimum]
        self._unkept |= {secret: replace(one, samples=()) for secret, one in once.items()}
        for one in long_enough[:MOST_AT_ONCE]:
            self._unkept[one.secret] = replace(one, state=State.WAITING, due=self._draw_due())
        self.crowded += len(long_enough[MOST_AT_ONCE:])

    def _write(self) -> None:
        if not self._unkept:
            return
        try:
            self._store.keep_encounters(one for one in self._unkept.values() if one.samples)
            if dropped := [one.secret for one in self._unkept.values() if not one.samples]:
                self._store.drop_encounters(dropped)
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


def _presence(one: Encounter) -> tuple[int, float]:
    """How long, then how near somebody was: to be seen there takes a frame every few seconds, for each made-up peer."""
    return len(one.samples), -sum(sample.attenuation for sample in one.samples) / max(len(one.samples), 1)
