"""When something goes out: at moments drawn without a look at what there is to send.

The gaps between two moments are exponential: whatever went out, a real message or a dummy, tells nothing of what will,
and no day differs from another by when something went out, or how often.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from protocol.encounter import SECONDS_A_DAY

if TYPE_CHECKING:
    import random as chances

    from agent.clock import Clock
    from agent.store import Store

LONGEST = 50.0  # times the mean; what seems to be further away was drawn by another clock
HALF_A_DAY = SECONDS_A_DAY / 2
KEPT = 14.0 * SECONDS_A_DAY  # s that a level stays without need
HIGHEST = 3


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """The next moment, seconds since 1970, and the mean gap that it was drawn by, s."""

    at: float
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
        after = Slot(at=self._clock.now() + self._chance.expovariate(1 / gap), gap=float(gap))
        return self._store.swap(self._name, slot, after) and usable

    def _holds(self, slot: Slot, gap: float) -> bool:
        return slot.gap == gap and -gap <= slot.at - self._clock.now() <= LONGEST * gap


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often slots come to a device: 2 ** level times as often as to others. It rises at once, and falls late.

    needed: when the level was needed last; behind: how many would wait at the next lower one. Times: seconds since 1970
    """

    level: int = 0
    needed: float = 0.0
    behind: float = 0.0
    at: float = 0.0

    def gap(self, base: float) -> float:
        """The mean gap, s."""
        return base / (1 << self.level)

    def after(self, waiting: int, base: float, most: int, now: float) -> Pace:
        """The pace once so many wait at a slot. base: the mean gap of level 0, s; most: messages of a day."""
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
    """The highest level of which a day has hardly ever more than so many messages."""
    fits = [level for level in range(HIGHEST + 1) if _hardly_exceeded(SECONDS_A_DAY * (1 << level) / base) <= most]
    return max(fits, default=0)


def _hardly_exceeded(mean: float) -> float:
    return mean + 6 * math.sqrt(mean)
