"""When something goes out: at moments drawn without a look at what there is to send.

Time is cut into stretches of one length, and in each there is one moment, drawn anew: whatever went out, a real message
or a dummy, tells nothing of what will, no day differs from another by when something went out, or how often, and nobody
waits for more than two stretches. (With exponential gaps, a day whose last moment is late would more often be one on
which a message that had waited went out.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol.encounter import SECONDS_A_DAY

if TYPE_CHECKING:
    import random as chances

    from agent.clock import Clock
    from agent.store import Store

FURTHEST = 2.0  # stretches to the next moment; what seems to be further away was drawn by another clock
HALF_A_DAY = SECONDS_A_DAY / 2
KEPT = 14.0 * SECONDS_A_DAY  # s that a level stays without need
HIGHEST = 3


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """The next moment, and the end of its stretch, both seconds since 1970. gap: the stretch's length, s."""

    at: float
    until: float
    gap: float


class Slots:
    """The moments of one kind of message. They are kept: no restart repeats or skips one, nor do two processes."""

    def __init__(self, name: str, chance: chances.Random, store: Store, clock: Clock) -> None:
        """name: in the store; chance: a cryptographic source, of nothing but what is seen on the network."""
        self._name = name
        self._chance = chance
        self._store = store
        self._clock = clock

    def next_at(self, gap: float) -> float:
        """When the next one is; 0 where it has to be drawn."""
        slot = self._store.get(self._name, Slot)
        return slot.at if slot is not None and self._holds(slot, gap) else 0.0

    def take(self, gap: float) -> bool:
        """Whether one has come, and is this process's to use; the next one is drawn then.

        After a sleep, or where the gap has changed, nothing goes out at once: the next one is drawn from now on.
        """
        slot = self._store.get(self._name, Slot)
        usable = slot is not None and self._holds(slot, gap)
        if slot is not None and usable and slot.at > self._clock.now():
            return False
        now = self._clock.now()
        begin = max(slot.until, now) if slot is not None and usable else now
        after = Slot(at=begin + self._chance.uniform(0, gap), until=begin + gap, gap=float(gap))
        return self._store.swap(self._name, slot, after) and usable

    def _holds(self, slot: Slot, gap: float) -> bool:
        return slot.gap == gap and -gap <= slot.at - self._clock.now() <= FURTHEST * gap


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often slots come to a device: 2 ** level times as often as to others. It rises at once, and falls late.

    needed: when the level was needed last; behind: how many would wait at the next lower one. Times: seconds since 1970
    """

    level: int = 0
    needed: float = 0.0
    behind: float = 0.0
    at: float = 0.0

    def gap(self, base: float) -> float:
        """The length of a stretch, s."""
        return base / (1 << self.level)

    def after(self, waiting: int, base: float, most: int, now: float) -> Pace:
        """The pace once so many wait at a slot. base: the stretch at level 0, s; most: messages of a day."""
        if waiting > HALF_A_DAY / self.gap(base) and self.level < highest(base, most):
            return Pace(level=self.level + 1, needed=now, at=now)
        if self.level == 0:
            return self
        lower = 2 * self.gap(base)
        behind = max(self.behind - (now - self.at) / lower, 0.0) + (waiting > 0)
        needed = now if behind + waiting > HALF_A_DAY / lower else self.needed
        if now - needed > KEPT:
            return Pace(level=self.level - 1, needed=now, at=now)
        return Pace(level=self.level, needed=needed, behind=behind, at=now)


def highest(base: float, most: int) -> int:
    """The highest level of which no day has more than so many messages; it may touch two stretches more than it has."""
    fits = [level for level in range(HIGHEST + 1) if SECONDS_A_DAY * (1 << level) / base + 2 <= most]
    return max(fits, default=0)
