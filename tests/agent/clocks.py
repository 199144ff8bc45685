"""A clock that a test turns by hand: nothing waits, and nothing depends on how busy the machine is."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from agent.clock import Clock

NOON = 20_000 * 86400 + 43_200.0
"""Noon of the day that the test world's contacts are from; an epoch of any sensible length begins there."""


class VirtualClock(Clock):
    """Stands still until `advance`; sleepers wake in the order of their times."""

    def __init__(self, at: float = NOON) -> None:
        super().__init__()
        # The real clock is frozen.
        object.__setattr__(self, "_now", at)
        object.__setattr__(self, "_sleepers", [])
        object.__setattr__(self, "_turn", itertools.count())

    _now: float
    _sleepers: list[tuple[float, int, asyncio.Future[None]]]
    _turn: itertools.count[int]

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._turn), woken))
        await woken

    def set(self, at: float) -> None:
        """Set the clock, as a person or a time server does: nobody who sleeps is woken."""
        shift = at - self._now
        object.__setattr__(self, "_now", at)
        object.__setattr__(self, "_sleepers", [(due + shift, turn, woken) for due, turn, woken in self._sleepers])

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            object.__setattr__(self, "_now", max(due, self._now))
            if not woken.done():
                woken.set_result(None)
            await settle()
        object.__setattr__(self, "_now", end)


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(12):
        await asyncio.sleep(0)
