"""A small world for end-to-end tests: a real backend on loopback, and people with agents, under a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent import account, exposure
from agent.epochs import Epochs
from agent.kept import State
from agent.proximity import Proximity
from agent.report import Reporter, StillChecked, declarable
from agent.store import Store, create_store
from agent.sync import Sync
from backend_stub.operations.founding import Plan, found
from backend_stub.operations.policy import Policy, changed
from backend_stub.operations.running import running
from ble.frame import carousel
from ble.radio import Sighting
from protocol.curve import open_curve
from protocol.encounter import day_of
from protocol.timescale import Timescale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.exposure import DayRisk
    from agent.kept import Encounter
    from agent.sync import Progress
    from backend_stub.operations.running import Backend
    from protocol.messages import Receipt

NOON = 20_000 * 86400 + 43200.0
DAY = 86400.0
NO_COVER = {"limits.submission_gap": 0, "limits.declaration_gap": 0}  # everything is sent when it is due
STEP = 2.0  # seconds between sightings


@dataclass
class JumpingClock:
    """A clock that stands still until a test moves it; who sleeps wakes up once it is late enough."""

    time: float = NOON
    scale: Timescale = field(default_factory=Timescale)

    def now(self) -> float:
        """Seconds since 1970."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved that far."""
        until = self.time + seconds
        while self.time < until:  # noqa: ASYNC110 (nobody tells when a test jumps)
            await asyncio.sleep(0.01)

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds


MOST_SENT = 1000
"""How often a report is sent, which is checked meanwhile: for a minute with the slow curve maker."""


class Person:
    """One person with an agent that has joined; the radio is left out, `meet` stands in for it."""

    def __init__(self, name: str, store: Store, world: World) -> None:
        self.name = name
        self.store = store
        self.world = world
        curve = open_curve(world.curve or None)
        chance = random.SystemRandom()
        self.sync_ = Sync(curve, chance, store, world.clock)  # type: ignore[arg-type]
        self.reporter = Reporter(curve, chance, store, world.clock)  # type: ignore[arg-type]
        limits = self.sync_.account.parameters.limits
        self.epochs = Epochs(limits.epoch, 0, chance.randbytes)
        self.proximity = Proximity(self.epochs)

    async def sync(self) -> Progress:
        """One look at the backend; everything that is due is done."""
        return await self.sync_.step(refresh=True)

    def states(self) -> list[State]:
        """The states of all encounters, oldest first."""
        return [one.state for one in self.store.encounters()]

    async def declare(self, code: str) -> Receipt:
        """Declare everything that can be."""
        stored = self.reporter.outstanding(code)
        if stored is None:
            days = declarable(self.store, self.sync_.account.parameters)
            stored = await self.reporter.make(code, set(days))
        for _ in range(MOST_SENT):
            with contextlib.suppress(StillChecked):
                return await self.reporter.send(stored)
        raise AssertionError("it is checked for ever")

    def risks(self) -> list[DayRisk]:
        """What the agent knows of exposures."""
        return exposure.day_risks(self.store.exposures(), self.sync_.account.parameters.risk)

    @property
    def warned(self) -> bool:
        """Whether the agent warns."""
        return any(one.warning for one in self.risks())


@dataclass
class World:
    """The backend and the clock of everybody."""

    folder: Path
    backend: Backend
    clock: JumpingClock
    curve: str
    people: dict[str, Person]

    async def code(self, onset_day: int | None = None, valid_days: int = 2) -> str:
        """A report code, as `spot-backend code` makes it."""
        from backend_stub.authority import report
        from backend_stub.authority import service as authority

        async with authority.opened(self.folder / "backend" / "authority", self.clock) as office:
            onset = day_of(self.clock.now()) if onset_day is None else onset_day
            return await report.make_code(office, onset, valid_days * int(DAY))

    async def publish(self) -> None:
        """Let the authority publish what waits."""
        self.clock.jump(3700)
        await asyncio.sleep(0.3)

    def meet(self, one: Person, other: Person, minutes: float = 20, rssi: int = -40) -> None:
        """Have two people near each other: both agents hear the other's frames; the clock moves on."""
        meet(self.clock, one, other, minutes, rssi)


def meet(clock: JumpingClock, one: Person, other: Person, minutes: float, rssi: int) -> None:
    """What two radios side by side would report, epoch by epoch."""
    end = clock.now() + minutes * 60
    while clock.now() < end:
        own = {person: person.epochs.fresh(clock.now()) for person in (one, other)}
        for person in (one, other):
            person.epochs.switch(own[person], clock.now())
        frames = {person: carousel(own[person].block) for person in (one, other)}
        turn = 0
        while clock.now() < min(end, own[one].ends):
            for hearer, sender in ((one, other), (other, one)):
                hearer.proximity.hear(Sighting(clock.now(), frames[sender][turn % 4], rssi))
            turn += 1
            clock.jump(STEP)
        for person in (one, other):
            kept = [
                replace(encounter, state=State.WAITING, due=clock.now())
                for encounter in person.proximity.finish(person.epochs.destroy_all())
                if encounter.span >= person.sync_.account.parameters.limits.minimum
            ]
            person.store.keep_encounters(kept)


@asynccontextmanager
async def world(
    folder: Path, names: Sequence[str], *, curve: str = "", settings: dict[str, object] | None = None
) -> AsyncIterator[World]:
    """A backend whose parts run, and people who have joined it."""
    clock = JumpingClock()
    policy = changed(Policy(), {**NO_COVER, "limits.delay": 0, **(settings or {})})
    await found(folder / "backend", Plan(port=0, policy=policy, curve=curve, pool_wait=0.01, tls=False), clock=clock)
    async with running(folder / "backend", clock) as backend:
        with contextlib.ExitStack() as stores:
            made = World(folder, backend, clock, curve, {})
            for name in names:
                store = await join(made, folder / name)
                stores.callback(store.close)
                made.people[name] = Person(name, store, made)
            yield made


async def join(made: World, folder: Path) -> Store:
    """Have one more person join; returns the agent's store."""
    from backend_stub.authority import join as joining
    from backend_stub.authority import service as authority

    async with authority.opened(made.folder / "backend" / "authority", made.clock) as office:
        (invitation,) = await joining.invite(office, 1)
    chance = random.SystemRandom()
    followed = await account.fetch_authority(made.backend.authority)
    store = create_store(folder, "file", chance.randbytes)
    await account.join(
        open_curve(made.curve or None),
        chance,
        store,
        made.backend.authority,
        invitation,
        followed,
        made.clock.now(),
    )
    return store


def signed(person: Person) -> list[Encounter]:
    """The person's signed contacts."""
    return person.store.encounters(state=State.SIGNED)
