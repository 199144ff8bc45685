"""One replay: people and backend under one loss, day by day, with a copy of everything kept after each day."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.epochs import GRACE
from backend_stub.operations.policy import LIMITS
from ble.simulated import AS_BLUEZ, Air
from protocol.curve import open_curve
from protocol.encounter import SECONDS_A_DAY, day_of
from protocol.errors import SpotError, Unreachable
from scripts.benchmarks.replay import backend as backends
from scripts.benchmarks.replay import people
from scripts.benchmarks.replay.contacts import SLOT
from scripts.benchmarks.replay.people import Meter, Nearness, Person
from scripts.benchmarks.replay.plan import hours
from scripts.benchmarks.replay.progress import keep, read_progress, restored
from scripts.benchmarks.replay.traffic import counted
from scripts.benchmarks.replay.truth import Declared
from scripts.benchmarks.replay.worker import SharedClock
from scripts.benchmarks.simulation import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from scripts.benchmarks.replay.backend import Backend, Outage
    from scripts.benchmarks.replay.contacts import Contacts, Pair
    from scripts.benchmarks.replay.plan import Illness
    from scripts.benchmarks.replay.progress import Progress
    from scripts.benchmarks.replay.traffic import Traffic

MINUTE = 60
GETTING_UP = 1800.0  # seconds within which agents begin their day
TOGETHER = 300  # seconds: agents due within so long deal with the backend at once, the earlier ones so much later
AT_ONCE = 8  # agents that deal with the backend at once
PUBLISHED_HOURLY = 3600.0
PUBLISHED_SECONDS = 20.0  # real, until a publication that is due is there
CODE_DAYS = 3
TRY_AGAIN = 600.0  # seconds after which a declaration that reached nobody is sent again
SWEEP = math.ceil(GRACE / SLOT) * SLOT  # seconds after an epoch's end at which its keys are destroyed


@dataclass
class Town:
    """Everybody, and the time."""

    contacts: Contacts
    clock: Clock
    shared: SharedClock
    air: Air
    near: set[tuple[float, float]]
    people: dict[str, Person]
    backend: Backend
    meter: Meter
    traffic: Traffic
    progress: Progress
    publication_due: float = 0.0
    published: int = -1

    # --- one day ---

    async def live(self, day: int, ill: list[Illness], outages: list[Outage]) -> None:
        """Let one day pass."""
        slots = self.contacts.days.get(day, {})
        begins, ends = hours(day, slots)
        await self._pass_until(begins)
        chance = random.Random(f"{day} getting up")  # noqa: S311 (to be repeatable)
        for person in self.people.values():
            person.begin_day(begins + chance.uniform(0, GETTING_UP))
        waiting = [(one.at, one, "") for one in ill]
        for minute in range(int(begins), int(ends), MINUTE):
            for at in range(minute, minute + MINUTE, SLOT):
                await self._live_slot(at, slots.get(at, frozenset()))
            await self.backend.follow(outages, self.clock.now())
            waiting = await self._declare_due(waiting)
            if minute % TOGETHER == 0:
                await self._sync_due()
        await self._live_slot(int(ends), frozenset())

    async def _pass_until(self, at: float) -> None:
        await self.clock.run(max(at - self.clock.now(), 0.0))
        self.shared.set(self.clock.now())

    async def _live_slot(self, at: int, pairs: frozenset[Pair]) -> None:
        """20 seconds in which these are near each other."""
        await self._pass_until(at)
        here = {name for pair in pairs for name in pair}
        numbers = {name: person.number for name, person in self.people.items()}
        self.near.clear()
        self.near.update(people.pairs_of(numbers, pairs))
        for name, person in self.people.items():
            if name in here:
                await person.arrive()
            elif person.on_air:
                await person.go()
        if here:
            await self._pass_until(at + SLOT)
            self.air.catch_up()
        for name, person in self.people.items():
            if name in here or (person.has_key and at % LIMITS.epoch == SWEEP):
                person.keep()

    async def _sync_due(self) -> None:
        now = self.clock.now()
        due = [person for person in self.people.values() if person.next_at <= now]
        if not due:
            return
        await self._await_publication()
        limit = asyncio.Semaphore(AT_ONCE)

        async def step(person: Person) -> bool:
            async with limit:
                return await person.step()

        with self.meter.running("network"):
            found = await asyncio.gather(*map(step, due))
        for person, exposed in zip(due, found, strict=True):
            if exposed and person.name not in self.progress.warned and person.warned:
                self.progress.warned[person.name] = now

    async def _declare_due(self, waiting: list[tuple[float, Illness, str]]) -> list[tuple[float, Illness, str]]:
        """Have those declare whose time it is; those to come yet."""
        now = self.clock.now()
        later = [one for one in waiting if one[0] > now]
        for _, one, known in (each for each in waiting if each[0] <= now):
            seconds = CODE_DAYS * SECONDS_A_DAY
            code = known or await self.backend.office.ask("code", onset=one.onset, seconds=seconds)
            contacts, problem = 0, ""
            try:
                with self.meter.running("network"):
                    receipt = await self.people[one.person].declare(code)
                contacts = sum(found.declared for found in self.people[one.person].store.encounters())
                if receipt.days:  # else nobody was met while infectious
                    self.publication_due = self.publication_due or now + PUBLISHED_HOURLY + TOGETHER
            except Unreachable:
                later.append((now + TRY_AGAIN, one, code))
                continue
            except SpotError as error:
                problem = error.text
            entry = Declared(person=one.person, at=one.at, onset=one.onset, contacts=contacts, problem=problem)
            self.progress.declared.append(entry)
        return later

    async def _await_publication(self) -> None:
        """The authority publishes within the hour; its process is given the real time that this takes."""
        if not self.publication_due:
            return
        until = time.monotonic() + PUBLISHED_SECONDS
        late = self.clock.now() >= self.publication_due
        while True:
            number = await self.backend.office.ask("published")
            if number > self.published:
                self.published, self.publication_due = number, 0.0
                return
            if not late:
                return
            if time.monotonic() > until:
                raise RuntimeError("the authority published nothing within the hour; its .log says why")
            await asyncio.sleep(PUBLISHED_SECONDS / 100)

    def note(self) -> None:
        """Bring what is kept of encounters up to date."""
        for name, person in self.people.items():
            self.progress.ledger.setdefault(name, {}).update(person.entries())


async def replay(
    contacts: Contacts, folder: Path, loss: float, seed: int, ill: list[Illness], tell: Callable[[str, Progress], None]
) -> Progress:
    """Live through all days, and one more for what is under way; goes on where it was interrupted.

    Raises filelock.Timeout where the same replay is being run already.
    """
    total = contacts.length + 1
    progress = read_progress(folder)
    if progress.days >= total:
        return progress
    with restored(folder) as live:
        async with _town(contacts, live, loss, seed, progress) as town:
            for day in range(progress.days, total):
                tell(f"day {day + 1}", progress)
                if day in contacts.days or day == total - 1:
                    await _live(town, day, seed, ill)
                progress.days = day + 1
                await town.backend.stop()
                keep(folder, progress)
                await town.backend.start()
    tell("", progress)
    return progress


async def _live(town: Town, day: int, seed: int, ill: list[Illness]) -> None:
    chance = random.Random(f"{seed} {day} away")  # noqa: S311 (to be repeatable)
    begins, ends = hours(day, town.contacts.days.get(day, {}))
    outages = backends.draw_outages(chance, town.backend.proxies, begins, ends)
    async with _measured(town):
        await town.live(day, [one for one in ill if day_of(one.at) == day_of(begins)], outages)
    town.progress.outages += len(outages)
    town.progress.hours_away += sum(one.ends - one.begins for one in outages) / 3600
    town.note()


@asynccontextmanager
async def _measured(town: Town) -> AsyncIterator[None]:
    """Add what passes meanwhile to the figures: processor, bytes, real time."""
    progress = town.progress
    begun, whole, sent = time.monotonic(), time.process_time(), replace(town.traffic)
    before = dict(town.meter.seconds) | await town.backend.cpu()
    yield
    own = dict(town.meter.seconds)
    for name, seconds in (own | await town.backend.cpu()).items():
        progress.cpu[name] = progress.cpu.get(name, 0.0) + seconds - before.get(name, 0.0)
    of_agents = sum(seconds - before.get(name, 0.0) for name, seconds in own.items())
    progress.cpu["bench"] = progress.cpu.get("bench", 0.0) + time.process_time() - whole - of_agents
    progress.sent += town.traffic.sent - sent.sent
    progress.received += town.traffic.received - sent.received
    progress.connections += town.traffic.connections - sent.connections
    progress.real += time.monotonic() - begun


@asynccontextmanager
async def _town(contacts: Contacts, live: Path, loss: float, seed: int, progress: Progress) -> AsyncIterator[Town]:
    clock = Clock(hours(progress.days, contacts.days.get(progress.days, {}))[0])
    shared = SharedClock.make(live / "clock", clock.now())
    if not (live / "backend").exists():
        await backends.establish(live / "backend", shared)
    near: set[tuple[float, float]] = set()
    conditions = replace(AS_BLUEZ, loss=loss, tick=float(SLOT), propagation=Nearness(near=near))
    air = Air(clock, conditions, seed=hash((seed, progress.days, loss)))
    curve, meter = open_curve(), Meter()
    async with backends.running(live / "backend", live / "clock") as backend, contextlib.AsyncExitStack() as ends:
        if not progress.days:
            codes = await backend.office.ask("invite", count=len(contacts.people))
            for name, code in zip(contacts.people, codes, strict=True):
                if not (live / "people" / name).exists():
                    await people.join(curve, live / "people" / name, backend.url, code, clock.now())
        traffic = ends.enter_context(counted())
        everybody = {}
        for number, name in enumerate(contacts.people):
            everybody[name] = Person(name, number, live / "people" / name, air, clock, curve, meter)
            ends.push_async_callback(everybody[name].close)
        town = Town(contacts, clock, shared, air, near, everybody, backend, meter, traffic, progress)
        town.published = await backend.office.ask("published")
        yield town
