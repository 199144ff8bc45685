"""People whose agents live through weeks in minutes, over TLS on loopback, with a real backend in another process."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import secrets
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from agent import account, submitting, sync, transport
from agent.clock import Clock
from agent.kept import Encounter, State
from agent.report import Reporter, StillChecked, declarable
from agent.samples import Sample
from agent.slots import Pace
from agent.store import Store, create_store
from agent.sync import Progress, Sync
from backend_stub import settings
from backend_stub.authority import join as joining
from backend_stub.authority import report, taking
from backend_stub.authority import service as authority
from backend_stub.operations.founding import Plan, found
from backend_stub.operations.policy import Policy, changed
from backend_stub.operations.running import running
from backend_stub.proxy import service as proxy
from protocol import messages
from protocol.curve import open_curve
from protocol.declaration import CHECKING
from protocol.encounter import SECONDS_A_DAY, day_of
from protocol.errors import Refused, SpotError
from protocol.parameters import proxy_urls
from protocol.timescale import Timescale
from scripts.benchmarks.cover.capture import address_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from multiprocessing.synchronize import Event
    from pathlib import Path

LOOKS = 43_200.0  # s between an agent's looks at the chains: rarer than in the field, where they would only hide more
NEAR, SPAN, SAMPLES = 40.0, 1200.0, 60  # dB, s, and samples of every meeting
DECLARING = 0.4  # of the days on which a device could: of few, chance alone makes much of an AUC
JOINS = 20  # tries
MEETING = 0.5  # of a device's days
BUSY = 12  # people that a busy device meets a day
WATCHED, OTHER = 9, 8  # devices of the play in which one submits at a time
SEED = 7
POLL = 5.0  # real s, as `spot run` has

SOURCE: ContextVar[str] = ContextVar("source", default="127.0.0.1")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is played. submission_gap, declaration_gap: s; day: real seconds that a day takes.

    unpaced: all answers are given as soon as they are found; unsized: dummy declarations have another size than reports
    """

    devices: int
    days: int
    day: float
    submission_gap: int = 7_200
    declaration_gap: int = 14_400
    unpaced: bool = False
    unsized: bool = False
    pool_wait: float = 1.0
    busy: int = 0  # devices with more contacts than the base rate has room for


@dataclass(slots=True)
class Lived:
    """What happened to each device, which only the devices know, by (device, day of the play).

    could: those that had something to declare, of which the days of declaring are drawn. Others differ from these in
    how many contacts there are, and in that there is none yet. left: those on which a report left; instead: those on
    which a dummy did, where a report would have if somebody who could declare had done so. wanting: whose has not yet.
    sent: by (device, real seconds since 1970), whether it was a report. checking: how many reports got no outcome yet.
    """

    scale: Timescale
    first_day: int
    met: dict[tuple[int, int], int] = field(default_factory=dict)
    could: set[tuple[int, int]] = field(default_factory=set)
    declared: set[tuple[int, int]] = field(default_factory=set)
    left: set[tuple[int, int]] = field(default_factory=set)
    instead: set[tuple[int, int]] = field(default_factory=set)
    wanting: set[int] = field(default_factory=set)
    sent: dict[tuple[int, float], bool] = field(default_factory=dict)
    checking: int = 0
    dummies: int = 0
    submitted: int = 0
    signed: int = 0
    failed: int = 0
    accepted: int = 0
    levels: dict[int, int] = field(default_factory=dict)

    def day_at(self, real: float) -> int:
        """The day of the play at this time of the machine."""
        return day_of(self.scale.at(real)) - self.first_day


class _From(aiohttp.TCPConnector):
    """A connector from the address of the device at work."""

    def __init__(self, **options: Any) -> None:
        super().__init__(local_addr=(SOURCE.get(), 0), **options)


@contextmanager
def own_addresses() -> Iterator[None]:
    """Have every device's connections come from its own address; looks rarer."""
    before, looks = aiohttp.TCPConnector, sync.REFRESH
    aiohttp.TCPConnector, sync.REFRESH = _From, LOOKS  # type: ignore[misc]
    try:
        yield
    finally:
        aiohttp.TCPConnector, sync.REFRESH = before, looks  # type: ignore[misc]


# --- the backend ---


@asynccontextmanager
async def backend(folder: Path, scene: Scene, scale: Timescale) -> AsyncIterator[str]:
    """A backend of this scene in a process of its own; its authority's URL."""
    policy = changed(
        Policy(),
        {"limits.submission_gap": scene.submission_gap, "limits.declaration_gap": scene.declaration_gap},
    )
    plan = Plan(port=0, policy=policy, clock=str(scale), pool_wait=scene.pool_wait, publish_every=SECONDS_A_DAY)
    made = await found(folder, plan, clock=Clock(scale))
    for part in settings.parts(folder):
        file = folder / part / settings.FILE
        # Parts look for parameters every 300 s of their clock, which would be all the time.
        text = file.read_text().replace("refresh = 300.0", f"refresh = {SECONDS_A_DAY / 4}")
        file.write_text(text.replace("workers = 2", "workers = 0"))
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    process = context.Process(target=_serve, args=(folder, scene.unpaced, ready, over), daemon=True)
    process.start()
    try:
        await asyncio.to_thread(ready.wait, 120)
        yield made.authority
    finally:
        over.set()
        await asyncio.to_thread(process.join, 30)


def _serve(folder: Path, unpaced: bool, ready: Event, over: Event) -> None:
    if unpaced:
        proxy.ANSWER_STEP = 0.0
        taking.Taken.answer = _when_checked  # type: ignore[method-assign, assignment]

    async def serve() -> None:
        async with running(folder):
            ready.set()
            await asyncio.to_thread(over.wait)

    asyncio.run(serve())


async def _when_checked(taken: taking.Taken) -> bytes:
    return await taken.checks or taken.reply.seal(CHECKING)


# --- the devices ---


class Device:
    """One agent, without a radio: what it hears comes from the play."""

    def __init__(self, number: int, store: Store, clock: Clock) -> None:
        self.number = number
        self.store = store
        self.progress = Progress()
        curve, chance = open_curve(), random.SystemRandom()
        self.curve = curve
        self.chance = chance
        self.sync = Sync(curve, chance, store, clock)
        self.reporter = Reporter(curve, chance, store, clock)

    def submitting(self, clock: Clock) -> submitting.Submitting:
        """Its submissions, to be asked one by one."""
        member = account.Member(self.curve, self.store)
        return submitting.Submitting(self.curve, self.chance, self.chance, self.store, clock, member)

    async def run(self) -> None:
        """What `spot run` does on the network."""
        SOURCE.set(address_of(self.number))
        async with asyncio.TaskGroup() as group:
            for line in self.sync.lines:
                group.create_task(self.sync.keep_up(line, self.progress, POLL))


async def settle(folder: Path, url: str, made: Path, count: int, clock: Clock, stack: ExitStack) -> list[Device]:
    """So many devices that have joined."""
    chance = random.SystemRandom()
    async with authority.opened(made / authority.FOLDER, clock) as office:
        invitations = await joining.invite(office, count)
    followed = await account.fetch_authority(url)
    devices = []
    for number, invitation in enumerate(invitations):
        store = create_store(folder / f"device-{number}", "file", chance.randbytes)
        stack.callback(store.close)
        for _ in range(JOINS):  # a nonce is good for ten minutes of a clock that runs a thousand times as fast
            with contextlib.suppress(Refused):
                await account.join(open_curve(), chance, store, url, invitation, followed, clock.now())
                break
        devices.append(Device(number, store, clock))
    return devices


def contacts_of_day(drawn: random.Random, most: int) -> int:
    """How many people somebody met on a day on which anybody was met: many meet few, few meet many."""
    return min(1 + int(drawn.paretovariate(1.2)) - 1, most)


class Play:
    """The days of all devices."""

    def __init__(self, scene: Scene, lived: Lived, clock: Clock, devices: list[Device], folder: Path) -> None:
        self._scene = scene
        self._lived = lived
        self._clock = clock
        self._devices = devices
        self._folder = folder
        self._drawn = random.Random(SEED)  # noqa: S311 (who meets whom is no secret)

    async def run(self, told: Callable[[int], None]) -> None:
        """Live through it. told: is called with the number of days that are over."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run()) for one in self._devices]
            for day in range(self._scene.days):
                for at, work in sorted(self._plan(day), key=lambda one: one[0]):
                    await self._until(day + at)
                    await work()
                await self._until(day + 1)
                told(day + 1)
            for task in tasks:
                task.cancel()
        self._sum_up()

    async def _until(self, days: float) -> None:
        left = (self._lived.first_day + days) * SECONDS_A_DAY - self._clock.now()
        await self._clock.sleep(max(left, 0.0))

    def _plan(self, day: int) -> list[tuple[float, Any]]:
        """What happens on a day, by the share of the day that has passed."""
        drawn, most = self._drawn, max(self._scene.submission_gap and 86_400 // self._scene.submission_gap // 3, 3)
        wanted: list[Device] = []
        for one in self._devices:
            if one.number >= self._scene.busy and drawn.random() < MEETING:
                wanted += [one] * contacts_of_day(drawn, most)
        drawn.shuffle(wanted)
        pairs = [(left, right) for left, right in zip(wanted[::2], wanted[1::2], strict=False) if left is not right]
        plan: list[tuple[float, Any]] = [
            (drawn.uniform(0.3, 0.9), lambda pair=pair: self._meet(day, *pair)) for pair in pairs
        ]
        for one in self._devices[: self._scene.busy]:
            plan += [(drawn.uniform(0.3, 0.9), lambda one=one: self._meet(day, one)) for _ in range(BUSY)]
        idle = [one for one in self._devices if one.reporter.queued() is None]
        able = [one for one in idle if day > 1 and self._could_declare(one)]
        self._lived.could |= {(one.number, day) for one in able}
        for one in able:
            work = self._declare if drawn.random() < DECLARING else self._only_want
            plan.append((drawn.random(), lambda one=one, work=work: work(day, one)))
        return plan

    async def _meet(self, day: int, *both: Device) -> None:
        """Two meet; one, where the other is somebody whose agent is not in the play."""
        last = self._clock.now()
        secret = self._drawn.randbytes(32)
        first = max(last - SPAN, (self._lived.first_day + day) * SECONDS_A_DAY)
        samples = tuple(Sample(first + number * SPAN / SAMPLES, NEAR) for number in range(SAMPLES))
        for role, who in enumerate(both):
            due = last + self._drawn.uniform(0, 600)
            met = Encounter(secret, role, day_of(first), first, last, samples, state=State.WAITING, due=due)
            who.store.keep_encounters([met])
            key = (who.number, day)
            self._lived.met[key] = self._lived.met.get(key, 0) + 1

    def _could_declare(self, one: Device) -> bool:
        return bool(declarable(one.store, one.sync.account.parameters))

    async def _only_want(self, _day: int, one: Device) -> None:
        self._lived.wanting.add(one.number)

    async def _declare(self, day: int, one: Device) -> None:
        days = declarable(one.store, one.sync.account.parameters)
        async with authority.opened(self._folder / authority.FOLDER, self._clock) as office:
            code = await report.make_code(office, day_of(self._clock.now()), 86_400 * 20)
        made = await one.reporter.make(code, set(days))
        self._lived.declared.add((one.number, day))
        self._lived.wanting.discard(one.number)
        if not self._scene.declaration_gap:
            SOURCE.set(address_of(one.number))
            await one.reporter.send(made)

    def _sum_up(self) -> None:
        lived = self._lived
        for one in self._devices:
            lived.dummies += one.progress.dummies
            lived.submitted += one.progress.submitted
            lived.signed += one.progress.signed
            lived.failed += one.progress.failed
            lived.accepted += sum(stored.receipt is not None for stored in one.store.reports())
            lived.levels[one.number] = (one.store.get(submitting.PACE, Pace) or Pace()).level


@contextmanager
def sending_noted(lived: Lived) -> Iterator[None]:
    """Note when reports leave, and dummies where one would have."""
    honest, honestly = Reporter.send, Reporter.pretend

    def note(reporter: Any, *, report: bool) -> None:
        device, now = int(reporter._store.folder.name.rpartition("-")[2]), time.time()  # noqa: SLF001
        if not report and device not in lived.wanting:
            return
        lived.wanting.discard(device)
        lived.sent[device, now] = report
        (lived.left if report else lived.instead).add((device, lived.day_at(now)))

    async def send(self: Reporter, stored: Any) -> Any:
        note(self, report=True)
        try:
            return await honest(self, stored)
        except StillChecked:
            lived.checking += 1
            raise

    async def pretend(self: Reporter) -> None:
        note(self, report=False)
        await honestly(self)

    Reporter.send, Reporter.pretend = send, pretend  # type: ignore[method-assign]
    try:
        yield
    finally:
        Reporter.send, Reporter.pretend = honest, honestly  # type: ignore[method-assign]


@contextmanager
def of_two_sizes() -> Iterator[None]:
    """A mutant: reports are larger than dummies."""
    honest, pretend = Reporter.size, Reporter.pretend

    def large(self: Reporter) -> int:  # noqa: ARG001
        return messages.REPORT_CLASSES[1]

    async def small(self: Reporter) -> None:
        self.size = lambda: messages.REPORT_CLASSES[0]  # type: ignore[method-assign]
        try:
            await pretend(self)
        finally:
            del self.size

    Reporter.size, Reporter.pretend = large, small  # type: ignore[method-assign]
    try:
        yield
    finally:
        Reporter.size, Reporter.pretend = honest, pretend  # type: ignore[method-assign]


def begin(scene: Scene) -> tuple[Timescale, int]:
    """The clock of a play that begins soon at midnight and ends in the past, and its first day."""
    first = day_of(time.time()) - scene.days - 2
    lead = 6.0 + 0.35 * scene.devices  # real s, for the backend to start and the devices to join
    speed = SECONDS_A_DAY / scene.day
    anchor = time.time()
    return Timescale(speed, anchor, first * SECONDS_A_DAY - anchor - lead * speed), first


async def play(folder: Path, scene: Scene, told: Callable[[int], None]) -> Lived:
    """Have the devices live through the scene. Raises SpotError."""
    scale, first = begin(scene)
    clock, lived = Clock(scale), Lived(scale, first)
    transport.tls.cache_clear()
    with ExitStack() as stack:
        stack.enter_context(own_addresses())
        stack.enter_context(sending_noted(lived))
        if scene.unsized:
            stack.enter_context(of_two_sizes())
        async with backend(folder / "backend", scene, scale) as url:
            devices = await settle(folder, url, folder / "backend", scene.devices, clock, stack)
            await Play(scene, lived, clock, devices, folder / "backend").run(told)
    return lived


# --- one at a time ---


async def one_by_one(folder: Path, rounds: int, *, unpaced: bool) -> list[str]:
    """What each of so many times three submissions was, in their order: pending, signed, dummy or failed."""
    scene = Scene(devices=2, days=2, day=SECONDS_A_DAY, unpaced=unpaced, pool_wait=0.4)
    scale, _ = begin(scene)
    clock, kinds = Clock(scale), []
    drawn = random.Random(SEED)  # noqa: S311
    with ExitStack() as stack:
        stack.enter_context(own_addresses())
        async with backend(folder / "backend", scene, scale) as url:
            one, other = await settle(folder, url, folder / "backend", 2, clock, stack)
            asking = [who.submitting(clock) for who in (one, other)]
            await asyncio.sleep(1)
            proxies = sorted(proxy_urls(one.sync.account.parameters))
            SOURCE.set(address_of(WATCHED))
            day = day_of(clock.now())
            waiting: list[bytes] = []
            for kind in [kind for _ in range(rounds) for kind in drawn.sample(("pending", "signed", "dummy"), 3)]:
                if kind == "signed" and not waiting:
                    waiting.append(secrets.token_bytes(32))
                    SOURCE.set(address_of(OTHER))
                    await asking[0].ask(waiting[-1], day, drawn.choice(proxies))
                    SOURCE.set(address_of(WATCHED))
                ccm = waiting.pop() if kind == "signed" else secrets.token_bytes(32)
                try:
                    record = await asking[1 if kind == "signed" else 0].ask(ccm, day, drawn.choice(proxies))
                except SpotError:
                    kinds.append("failed")
                    continue
                if kind == "pending":
                    waiting.append(ccm)
                kinds.append(kind if (record is not None) == (kind == "signed") else "failed")
    return kinds
