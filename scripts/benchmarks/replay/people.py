"""The people of a replay: each with the parts of a real agent, a sealed store, and a radio in simulated air."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import defaultdict
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import account, exposure
from agent.epochs import GRACE, Epochs
from agent.keeping import Keeper
from agent.kept import State
from agent.proximity import Proximity
from agent.report import Reporter, declarable
from agent.store import create_store, open_store
from agent.sync import Sync
from ble.propagation import Propagation
from protocol.encounter import ccm_of, day_of
from protocol.errors import SpotError
from scripts.benchmarks.replay.truth import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agent.epochs import OwnEpoch
    from ble.propagation import Place, Wall
    from ble.simulated import Air
    from protocol import messages
    from protocol.curve import Curve
    from scripts.benchmarks.replay.contacts import Pair
    from scripts.benchmarks.simulation import Clock

CHANCE = random.SystemRandom()


@dataclass(frozen=True)
class Nearness(Propagation):
    """Who is near whom is 1 m away, in the open; everybody else is out of reach.

    No places in a plane can do that: where a is near b, and b near c, the sensors (which look ahead, and do not see
    through people) often found a and c apart. So a place here is only a number that says whose it is.
    """

    near: set[tuple[float, float]] = field(default_factory=set)

    def loss(self, here: Place, there: Place, _walls: Iterable[Wall] = ()) -> float:
        """Mean loss, dB."""
        return self.first_metre if (here[0], there[0]) in self.near else math.inf


@dataclass
class Meter:
    """Processor seconds of this process, by what they went into."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextlib.contextmanager
    def running(self, what: str) -> Iterator[None]:
        """What runs meanwhile is this."""
        begun = time.process_time()
        try:
            yield
        finally:
            self.seconds[what] += time.process_time() - begun


class Person:
    """One person with an agent that has joined."""

    def __init__(self, name: str, number: int, folder: Path, air: Air, clock: Clock, curve: Curve, meter: Meter):
        """Open the agent's store, and put its radio into the air."""
        self.name = name
        self.number = number
        self.next_at = 0.0
        self._clock = clock
        self._meter = meter
        self.store = open_store(folder, "file")
        self.sync = Sync(curve, CHANCE, self.store, clock)  # type: ignore[arg-type]
        self.reporter = Reporter(curve, CHANCE, self.store, clock)  # type: ignore[arg-type]
        limits = self.sync.account.parameters.limits
        self._radio = air.radio(name, (float(number), 0.0))
        self._epochs = Epochs(limits.epoch, self._radio.tx_power, CHANCE.randbytes)
        self._proximity = Proximity(self._epochs)
        self._keeper = Keeper(self.store, self._proximity, lambda: limits, CHANCE, clock)  # type: ignore[arg-type]
        self._keeper.recover()
        self._own: OwnEpoch | None = None
        self._listening: asyncio.Task[None] | None = None

    # --- on air ---

    @property
    def on_air(self) -> bool:
        """Whether it sends and listens."""
        return self._listening is not None

    @property
    def has_key(self) -> bool:
        """Whether there is a key that is not destroyed yet."""
        return self._own is not None

    async def arrive(self) -> None:
        """Be near somebody: from now on what is sent is heard. With the key of this epoch, a fresh one if need be."""
        now = self._clock.now()
        with self._meter.running("radio"):
            if self._own is None or not self._own.covers(now):
                await self._show(self._epochs.fresh(now), now)
            elif not self.on_air:
                await self._show(self._own, now)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())

    async def _show(self, own: OwnEpoch, now: float) -> None:
        self._own = own
        await self._radio.advertise(own.block)
        self._epochs.switch(own, now)

    async def go(self) -> None:
        """Be alone again: what is sent now, nobody hears, and it is left out."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
            self._listening = None
            await self._radio.advertise(None)

    async def _listen(self) -> None:
        async with aclosing(self._radio.sightings()) as sightings:
            async for sighting in sightings:
                with self._meter.running("radio"):
                    self._proximity.hear(sighting)

    def keep(self) -> None:
        """Write down what was heard; after the end of an epoch, what is to be submitted."""
        now = self._clock.now()
        with self._meter.running("store"):
            over = self._epochs.destroy(now)
            self._keeper.keep(over)
            self._proximity.expire(now)
            if over:
                self.next_at = min(self.next_at, self.sync.next_step())
        if self._own is not None and now >= self._own.ends + GRACE:
            self._own = None

    def begin_day(self, at: float) -> None:
        """Wake up at this time."""
        self._keeper.forget(day_of(at))
        self.next_at = max(at, self.sync.next_step())

    # --- network ---

    async def step(self) -> bool:
        """Do with the backend what is due; whether exposures were found."""
        found = 0
        with contextlib.suppress(SpotError):  # told by its status, and tried again
            found = (await self.sync.step()).exposures
        self.next_at = max(self.sync.next_step(), self._clock.now() + 1)
        return found > 0

    async def declare(self, code: str) -> messages.Receipt:
        """Declare everything that can be. Raises SpotError."""
        stored = self.reporter.outstanding(code)
        if stored is None:
            stored = await self.reporter.make(code, set(declarable(self.store, self.sync.account.parameters)))
        return await self.reporter.send(stored)

    @property
    def warned(self) -> bool:
        """Whether the agent warns."""
        risks = exposure.day_risks(self.store.exposures(), self.sync.account.parameters.risk)
        return any(one.warning for one in risks)

    def entries(self) -> dict[str, Entry]:
        """All encounters by CCM."""
        exposed = {one.encounter.id for one in self.store.exposures()}
        return {
            ccm_of(one.secret).hex(): Entry(
                first=one.first,
                last=one.last,
                day=one.day,
                state=one.state.value,
                declared=one.declared,
                exposed=one.id in exposed,
            )
            for one in self.store.encounters()
            if one.state is not State.OPEN
        }

    async def close(self) -> None:
        """Fall silent and let the store go."""
        await self.go()
        await self._radio.close()
        self.store.close()


async def join(curve: Curve, folder: Path, url: str, invitation: str, now: float) -> None:
    """Have one more person join."""
    store = create_store(folder, "file", CHANCE.randbytes)
    try:
        followed = await account.fetch_authority(url)
        await account.join(curve, CHANCE, store, url, invitation, followed, now)
    finally:
        store.close()


def pairs_of(numbers: dict[str, int], pairs: Iterable[Pair]) -> set[tuple[float, float]]:
    """Both orders of pairs, by people's numbers."""
    ordered = {(float(numbers[one]), float(numbers[other])) for one, other in pairs}
    return ordered | {(other, one) for one, other in ordered}
