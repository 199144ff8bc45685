"""Some tens of real agents in a process of their own: store, sync and reporter as `spot run` has them, without a radio.

They meet in pairs, submit, declare, fetch publications and find their exposures, all by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import account
from agent.clock import Clock
from agent.kept import Encounter, State
from agent.report import Reporter, declarable
from agent.samples import Sample
from agent.store import create_store
from agent.sync import Sync
from backend_stub.authority import join as joining
from backend_stub.authority import report
from backend_stub.authority import service as authority
from protocol import messages
from protocol.curve import open_curve
from protocol.declaration import normal_code
from protocol.encounter import SECONDS_A_DAY, ccm_of, day_of, token_of
from protocol.errors import SpotError
from protocol.timescale import read_timescale

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from agent.store import Store

NEAR, MINUTES = 40.0, 20  # dB, minutes: each meeting is near enough and long enough to be declared
STEP = 20.0  # seconds between two samples
LOOK = 600.0  # seconds of the agents' clock between two looks at the chains, besides their own
MEETINGS = 6  # of one agent, about
DECLARING = 3  # of so many agents one declares
CODE_DAYS = 10


@dataclass(frozen=True, slots=True)
class Held:
    """One encounter as an agent keeps it."""

    agent: str
    ccm: bytes
    state: str
    asked: int
    record: bytes | None


@dataclass(frozen=True, slots=True)
class Declared:
    """A code, and what came of it. tokens: what the authority has to publish."""

    code: str
    accepted: bool = False
    nullifiers: tuple[bytes, ...] = ()
    tokens: tuple[bytes, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Journal:
    """What the agents have. unwarned: encounters whose peer declared them, of which the agent did not hear."""

    held: list[Held] = field(default_factory=list)
    declared: list[Declared] = field(default_factory=list)
    unwarned: int = 0
    warned: int = 0
    incomplete: int = 0
    steps: int = 0


class Person:
    """One agent that has joined."""

    def __init__(self, name: str, store: Store, clock: Clock) -> None:
        self.name = name
        self.store = store
        curve, chance = open_curve(), random.SystemRandom()
        self.sync = Sync(curve, chance, store, clock)
        self.reporter = Reporter(curve, chance, store, clock)
        self.declared_secrets: set[bytes] = set()

    @property
    def waits(self) -> bool:
        """Whether something is still to be submitted."""
        return any(one.state in {State.WAITING, State.PENDING} for one in self.store.encounters())


class Village:
    """The agents, and what happens to them."""

    def __init__(self, folder: Path, backend: Path, clock: Clock, seed: str) -> None:
        self._folder = folder
        self._backend = backend
        self._clock = clock
        self._drawn = random.Random(seed)  # noqa: S311 (no secret: who meets whom)
        self.people: list[Person] = []
        self.journal = Journal()
        self.draining = False

    async def settle(self, count: int, stack: ExitStack) -> None:
        """Have so many people join."""
        chance = random.SystemRandom()
        async with authority.opened(self._backend / authority.FOLDER, self._clock) as office:
            url, invitations = office.told.url, await joining.invite(office, count)
        followed = await account.fetch_authority(url)
        for number, invitation in enumerate(invitations):
            store = create_store(self._folder / f"agent-{number}", "file", chance.randbytes)
            stack.callback(store.close)
            await account.join(open_curve(), chance, store, url, invitation, followed, self._clock.now())
            self.people.append(Person(f"agent-{number}", store, self._clock))

    async def live(self, seconds: float) -> None:
        """Everybody lives on until `draining` and all is complete; meetings are spread over about so many seconds."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._look_after(person)) for person in self.people]
            tasks += [
                group.create_task(self._declare(person, self._drawn.uniform(0.3, 0.8) * seconds))
                for person in self.people[::DECLARING]
            ]
            for _ in range(len(self.people) * MEETINGS // 2):
                if self.draining:
                    break
                self._meet(*self._drawn.sample(self.people, 2))
                await asyncio.sleep(self._drawn.expovariate(1) * seconds / (len(self.people) * MEETINGS / 2))

    def _meet(self, one: Person, other: Person) -> None:
        secret = self._drawn.randbytes(32)
        last = self._clock.now()
        first = last - MINUTES * 60
        for role, person in enumerate((one, other)):
            samples = tuple(Sample(first + step * STEP, NEAR) for step in range(MINUTES * 3))
            due = last + self._drawn.uniform(0, person.sync.account.parameters.limits.delay)
            met = Encounter(secret, role, day_of(first), first, last, samples, state=State.WAITING, due=due)
            person.store.keep_encounters([met])

    async def _look_after(self, person: Person) -> None:
        """What `spot run` does about the network."""
        while not (self.draining and self._done(person)):
            await person.sync.step()
            self.journal.steps += 1
            rest = min(person.sync.next_step() - self._clock.now(), LOOK)
            await self._clock.sleep(max(rest, 1.0))

    def _done(self, person: Person) -> bool:
        return not person.waits and not self._missing(person) and not self._unfinished

    @property
    def _unfinished(self) -> bool:
        return any(not one.accepted and not one.problem for one in self.journal.declared)

    async def _declare(self, person: Person, after: float) -> None:
        """Get a code, declare, and go on until the authority's own answer is there."""
        began = time.monotonic()
        while not self.draining and (time.monotonic() < began + after or not self._declarable(person)):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        if not self._declarable(person):
            return
        code = normal_code(await self._code())
        place = len(self.journal.declared)
        self.journal.declared.append(Declared(code))
        while not self.journal.declared[place].accepted:
            try:
                stored = person.reporter.outstanding(code)
                if stored is None:
                    stored = await person.reporter.make(code, set(self._declarable(person)))
                receipt = await person.reporter.send(stored)
            except SpotError as error:
                if error.slug != "unreachable":
                    self.journal.declared[place] = Declared(code, problem=f"{error.slug}: {error.text}")
                    return
                await asyncio.sleep(self._drawn.uniform(0.5, 2.0))
                continue
            named = {one.id: one for one in person.store.encounters()}
            chosen = [named[number] for number in stored.encounters]
            person.declared_secrets |= {one.secret for one in chosen}
            self.journal.declared[place] = Declared(
                code,
                receipt.accepted,
                tuple(_nullifier(one) for one in chosen),
                tuple(token_of(one.secret, one.role) for one in chosen),
            )

    def _declarable(self, person: Person) -> dict[int, list[Encounter]]:
        return declarable(person.store, person.sync.account.parameters)

    async def _code(self) -> str:
        while True:
            with suppress(SpotError):
                async with authority.opened(self._backend / authority.FOLDER, self._clock) as office:
                    today = day_of(self._clock.now())
                    return await report.make_code(office, today, CODE_DAYS * SECONDS_A_DAY)
            await asyncio.sleep(0.5)

    def _missing(self, person: Person) -> set[bytes]:
        """The secrets of encounters that a peer declared, and that this agent has not found in a publication."""
        declared = {secret for other in self.people if other is not person for secret in other.declared_secrets}
        mine = {one.secret for one in person.store.encounters()} - person.declared_secrets
        return (declared & mine) - {one.encounter.secret for one in person.store.exposures()}

    def close(self) -> Journal:
        """Write down what everybody has."""
        journal = self.journal
        for person in self.people:
            journal.incomplete += person.waits
            journal.unwarned += len(self._missing(person))
            journal.warned += len(person.store.exposures())
            journal.held += [
                Held(person.name, ccm_of(one.secret), one.state.value, one.attempts, one.record)
                for one in person.store.encounters()
            ]
        return journal


def _nullifier(one: Encounter) -> bytes:
    return messages.decode(messages.ContactRecord, one.record or b"").nullifier


def main(pipe: Connection, folder: Path, backend: Path, scale: str, seed: str, count: int, seconds: float) -> None:
    """Live until the pipe says so; then give the journal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder.mkdir()
    logging.basicConfig(filename=folder / "log", level=logging.INFO)
    with ExitStack() as stack:
        village = Village(folder, backend, Clock(read_timescale(scale)), seed)
        asyncio.run(_main(pipe, village, count, seconds, stack))


async def _main(pipe: Connection, village: Village, count: int, seconds: float, stack: ExitStack) -> None:
    await village.settle(count, stack)
    pipe.send("ready")
    living = asyncio.create_task(village.live(seconds))
    patience = float("inf")
    while not living.done() and time.monotonic() < patience:
        await asyncio.wait([living], timeout=0.5)
        if pipe.poll():
            village.draining, patience = True, time.monotonic() + pipe.recv()
    if living.done():
        living.result()
    living.cancel()
    with suppress(asyncio.CancelledError):
        await living
    pipe.send(village.close())
