"""Devices that meet in simulated air, in time that passes only where somebody waits for it.

A device here is what the service wires up, less disk and network: a radio of an air, own epochs, proximity, and a duty.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
from typing import TYPE_CHECKING

from agent.epochs import Epochs
from agent.proximity import Proximity
from agent.service import FLUSH
from ble.duty import listen_by

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Sequence

    from ble.duty import Duty
    from ble.simulated import Air

NOON = 20_000 * 86400 + 43_200.0  # Unix seconds; an epoch of any sensible length begins there
EPOCH = 900  # seconds
SETTLED = 8  # turns of the event loop after which everybody who was woken waits again


class Clock:
    """Time for one simulation: it passes in `run`, and there as fast as the machine can."""

    def __init__(self, at: float) -> None:
        self._now = at
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._turn = itertools.count()

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once so much time has passed."""
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(seconds, 0.0), next(self._turn), woken))
        await woken

    async def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self._now + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await _settle()
        self._now = end


async def _settle() -> None:
    for _ in range(SETTLED):
        await asyncio.sleep(0)


class Device:
    """One device at x metres.

    listened: seconds; sightings: how many; beats: numbers of the two seconds in which there was one
    spans: seconds between first and last sighting, by an encounter's secret; whole_at: when a block was first complete
    """

    def __init__(self, air: Air, clock: Clock, x: float, duty: Duty, chance: random.Random) -> None:
        self.radio = air.radio(f"at {x} m", (x, 0.0))
        self.listened = 0.0
        self.sightings = 0
        self.beats: set[int] = set()
        self.whole_at = math.inf
        self.spans: dict[bytes, float] = {}
        self._clock = clock
        self._duty = duty
        self._chance = chance
        self._epochs = Epochs(EPOCH, self.radio.tx_power, chance.randbytes)
        self._proximity = Proximity(self._epochs)

    async def be_on_air(self) -> None:
        """Send and listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen_by_duty())
            while True:
                own = self._epochs.fresh(self._clock.now())
                await self.radio.advertise(own.block)
                self._epochs.switch(own, self._clock.now())
                await self._clock.sleep(own.ends - self._clock.now())
                self.note()

    async def _listen_by_duty(self) -> None:
        # A device that has been running for long is anywhere in its round when it meets somebody.
        if self._duty.round:
            await self._clock.sleep(self._chance.uniform(0, self._duty.round))
        await listen_by(lambda: self._duty, self._listen, self._proximity.is_completing, self._clock, self._chance)

    async def _listen(self) -> None:
        begun = self._clock.now()
        try:
            async with contextlib.aclosing(self.radio.sightings()) as sightings:
                async for sighting in sightings:
                    self.sightings += 1
                    self.beats.add(int(sighting.at // FLUSH))
                    self._proximity.hear(sighting)
                    if self._proximity.heard == 1:
                        self.whole_at = min(self.whole_at, sighting.at)
        finally:
            self.listened += self._clock.now() - begun

    def note(self) -> None:
        """Bring `spans` up to date."""
        over = self._epochs.destroy(self._clock.now())
        for one in self._proximity.changed() + self._proximity.finish(over):
            self.spans[one.secret] = one.span


@contextlib.asynccontextmanager
async def on_air(devices: Sequence[Device]) -> AsyncIterator[None]:
    """Have the devices on air meanwhile."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(device.be_on_air()) for device in devices]
        yield
        for device in devices:
            device.note()
        for task in tasks:
            task.cancel()


def shared(one: Device, other: Device, minimum: float) -> int:
    """How many encounters both sides hold with the same secret, and long enough (seconds)."""
    return sum(span >= minimum and other.spans.get(secret, 0.0) >= minimum for secret, span in one.spans.items())
