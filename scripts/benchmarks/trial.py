"""One trial by faults: a backend, real agents, light clients, and a seeded plan of what fails when."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from backend_stub import settings
from backend_stub.clock import ScaledClock, today
from backend_stub.operations.founding import Plan, found
from backend_stub.operations.policy import Policy, changed
from backend_stub.settings import ProxySettings
from protocol.timescale import Timescale, read_timescale
from scripts import postgres
from scripts.benchmarks import harm, real_agents, volume
from scripts.benchmarks.bed import Bed, processes
from scripts.benchmarks.crowd import gather
from scripts.benchmarks.parts import Part, below
from scripts.benchmarks.reconciling import Findings, reconcile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

    from scripts.benchmarks.harm import Disk, Steps, Wire
    from scripts.postgres import Cluster

SPEED = 60.0  # an agent's minute is a second
STEP = 20.0  # s of the machine's clock by which others are stepped at most
SETTINGS = {  # seconds of that clock
    "limits.delay": 300,
    "limits.retry_first": 120,
    "limits.retry_last": 1200,
    "limits.submission_gap": 0,
    "limits.declaration_gap": 0,
    "limits.submissions": 1 << 14,  # its light clients are few
}
PUBLISH_EVERY = 600.0
POOL_WAIT = 0.3  # s
USERS = 40  # light clients' credentials, at most
LANES = 128  # contacts of light clients under way at once, at most
DISK, POSTGRES_DISK = 256, 1024  # MB
RATE = 150.0  # submissions a second, about, to spread meetings over the run
SLOW = 60.0  # s without progress after which the next fault comes all the same
RESTART = 0.7  # s at most until a part that died is started again
PATIENCE = 300.0  # s for everybody to complete in the end
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Result:
    """What was done, and what became of it."""

    faults: Counter[str]
    left_out: list[str]
    findings: Findings
    counted: dict[str, int]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The result for machines."""
        return {
            "faults": dict(self.faults),
            "left_out": self.left_out,
            "counted": self.counted,
            "broken": dict(self.findings.broken),
            "kept": self.findings.kept,
            "seconds": self.seconds,
        }


class Trial:
    """One run; `told` hears what is being done, and how many submissions were answered.

    speed: of the clocks; minutes: how long it goes on at most, before everybody completes.
    """

    def __init__(
        self,
        folder: Path,
        database: str,
        submissions: int,
        kills: int,
        agents: int,
        seed: str,
        told: Callable[[str, int], None],
        speed: float = SPEED,
        minutes: float = float("inf"),
    ) -> None:
        self._folder = folder
        self._database = database
        self._submissions = submissions
        self._kills = kills
        self._agents = agents
        self._seed = seed
        self._told = told
        self._speed = speed
        self._minutes = minutes
        self._drawn = random.Random(f"{seed}: faults")  # noqa: S311 (no secret)
        self._answered = 0
        self._faults: Counter[str] = Counter()
        self._left_out: list[str] = []
        self._healing = True
        self._order: list[Part | None] = []  # None: a worker of any part
        self._restarts = 0
        self._cluster: Cluster | None = None
        self._disk: Disk | None = None
        self._wire: Wire | None = None
        self._steps: Steps | None = None

    async def run(self) -> Result:
        """Do all of it. Raises SpotError where the backend cannot even be founded."""
        began = time.monotonic()
        self._scale = str(Timescale(self._speed, time.time()))
        self._clock = ScaledClock(read_timescale(self._scale))
        async with AsyncExitStack() as stack:
            bed = await self._found(stack)
            await bed.start()
            some = max(8, min(USERS, self._submissions // 50))
            crowd = await gather(bed.folder, some, today(self._clock), self._clock)
            self._told("agents join", 0)
            seconds = self._submissions / RATE
            told = (self._folder / "agents", bed.folder, self._scale, self._seed, self._agents, seconds)
            agents = _spawn(stack, real_agents.main, told)
            await asyncio.to_thread(agents.recv)
            clients = _spawn(stack, volume.main, (crowd, self._seed, self._scale, min(LANES, self._submissions // 5)))
            healer = asyncio.create_task(self._heal(bed))
            await self._harm(bed, clients)
            self._told("everybody completes", self._answered)
            for pipe in (clients, agents):
                pipe.send(PATIENCE)
            ledger = await self._last(clients)
            journal = await self._last(agents)
            self._healing = False
            await healer
            self._told("reconciling", self._answered)
            await asyncio.to_thread(bed.stop)
            recorded = await bed.recorded()
            office, rules = await bed.office(self._clock), await bed.parameters(self._clock)
        findings = await asyncio.to_thread(reconcile, ledger, journal, recorded, office, rules)
        counted = {
            "submissions sent by light clients": ledger.sent,
            "answered": ledger.answered,
            "turned away, or not answered": ledger.away,
            "parts started again": self._restarts,
            "real agents": self._agents,
        } | dict(findings.counted)
        return Result(self._faults, self._left_out, findings, counted, time.monotonic() - began)

    # --- the backend ---

    async def _found(self, stack: AsyncExitStack) -> Bed:
        home, library = self._folder / "disk", harm.faketime()
        if library is None:
            self._left_out.append("a clock stepped: apt-get install libfaketime")
        else:
            self._steps = harm.Steps(self._folder / "clock", library)
        if harm.is_root():
            self._disk = stack.enter_context(harm.small_disk(home, DISK))
        else:
            self._left_out.append("a full disk, a proxy cut off: only root can make them")
        if self._database == "postgresql":
            self._cluster, self._disk = stack.enter_context(_postgres())
        plan = Plan(
            port=0,
            clock=self._scale,
            policy=changed(Policy(), SETTINGS),
            publish_every=PUBLISH_EVERY,
            pool_wait=POOL_WAIT,
            database=self._cluster.fresh() if self._cluster else "",
            tls=False,  # a proxy moves to the far end of a wire, which is in no certificate
        )
        folder = home / "backend"
        await found(folder, plan)
        bed = Bed(folder, [self._part(*one) for one in processes(folder)], self._cluster)
        stack.callback(bed.stop)
        if harm.is_root() and harm.has_netns():
            self._wire = stack.enter_context(harm.wired())
            await self._move(bed, bed.parts[-1], self._wire)
        return bed

    def _part(self, folder: Path, number: int) -> Part:
        if self._steps is None:
            return Part(folder, number, self._folder)
        misdated = (folder.name, number) in {("server", 1), ("proxy-group-1-1", 1)}
        return Part(folder, number, self._folder, self._steps.environment if misdated else None)

    async def _move(self, bed: Bed, far: Part, wire: Wire) -> None:
        """Put this proxy at the other end of the wire; new parameters say where it is."""
        old = settings.read_part(far.folder)
        for name in settings.parts(bed.folder):
            told = settings.read_part(bed.folder / name)
            changes: dict[str, Any] = {"host": "0.0.0.0"}  # noqa: S104 (the wire's near end is one of its addresses)
            if name == far.folder.name and isinstance(told, ProxySettings):
                near = {at: tuple(_via(url, wire.near) for url in getattr(told, at)) for at in ("authority", "server")}
                changes = {"host": wire.far, **near}
            settings.write(bed.folder / name, msgspec.structs.replace(told, **changes))
        far.before = wire.before
        await bed.move_proxy(old.url, settings.read_part(far.folder).url, self._clock)

    # --- what fails ---

    async def _harm(self, bed: Bed, clients: Connection) -> None:
        """Every fault at its point, a count of answered submissions; ends when all are done and enough is answered."""
        plan = self._plan(bed)
        since = time.monotonic()
        until = since + 60 * self._minutes
        while (plan or self._answered < self._submissions) and time.monotonic() < until:
            before = self._answered
            await self._listen(clients)
            if self._answered > before:
                since = time.monotonic()
            while plan and (plan[0][0] <= self._answered or time.monotonic() - since > SLOW):
                since = time.monotonic()
                _, name, fault = plan.pop(0)
                await fault()
                self._faults[name] += 1
                await self._listen(clients)

    async def _listen(self, clients: Connection) -> None:
        while await asyncio.to_thread(clients.poll, 0.1):
            self._answered = clients.recv()
        self._told(f"{sum(self._faults.values())} faults", self._answered)

    async def _last(self, pipe: Connection) -> Any:
        """What comes last through the pipe, after notices of progress."""
        while isinstance(said := await asyncio.to_thread(pipe.recv), int):
            self._answered = said
            self._told("everybody completes", said)
        return said

    def _plan(self, bed: Bed) -> list[tuple[int, str, Callable[[], Awaitable[None]]]]:
        """What happens at how many answered submissions, in order."""
        wanted: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("kill -9 of a part or a worker", partial(self._kill, bed))
        ] * self._kills
        some = max(1, self._kills // 20)
        if self._cluster is not None:
            wanted += [("PostgreSQL restarted", partial(asyncio.to_thread, self._restart_postgres))] * some
            wanted += [("PostgreSQL kill -9", partial(asyncio.to_thread, self._cluster.kill))] * some
            wanted += [("kill -9 of a PostgreSQL connection", self._kill_connection)] * some
        if self._disk is not None:
            wanted += [("disk full for 4 s", partial(self._disk.fill, 4))] * max(1, some // 2)
        if self._wire is not None:
            wanted += [("a proxy cut off for 8 s", partial(self._wire.cut, 8))] * max(1, some // 2)
        if self._steps is not None:
            steps = [
                self._drawn.choice((-1, 1)) * self._drawn.uniform(STEP / 4, STEP) for _ in range(max(1, some // 2))
            ]
            name = f"clocks stepped by up to {STEP * self._speed / 60:g} min, and back"
            wanted += [(name, partial(self._steps.step, by, 4)) for by in steps]
        self._drawn.shuffle(wanted)
        points = sorted(self._drawn.uniform(0, self._submissions) for _ in wanted)
        return [(int(point), *fault) for point, fault in zip(points, wanted, strict=True)]

    async def _kill(self, bed: Bed) -> None:
        """The parts in turn, in an order drawn anew each time round; each time round also a worker of one of them."""
        await asyncio.sleep(self._drawn.uniform(0, 0.5))
        if not self._order:
            self._order = [*self._drawn.sample(bed.parts, len(bed.parts)), None]
        part = self._order.pop()
        workers = [pid for one in bed.parts if one.runs for pid in below(one.pid)] if part is None else []
        if workers:
            with suppress(ProcessLookupError):
                os.kill(self._drawn.choice(workers), signal.SIGKILL)
            self._faults["(of these, workers)"] += 1
        else:
            await self._kill_part(part or self._drawn.choice(bed.parts))

    async def _kill_part(self, part: Part) -> None:
        while not part.runs:  # noqa: ASYNC110 (it was killed just now, and is about to come back)
            await asyncio.sleep(0.05)
        await asyncio.to_thread(part.kill)

    def _restart_postgres(self) -> None:
        cluster = self._cluster
        if cluster is not None and cluster.pid:
            cluster.stop()  # it is started again with everything else that is not there

    async def _kill_connection(self) -> None:
        cluster = self._cluster
        if cluster is not None and cluster.pid and (below_it := below(cluster.pid)):
            with suppress(ProcessLookupError):
                os.kill(self._drawn.choice(below_it), signal.SIGKILL)

    async def _heal(self, bed: Bed) -> None:
        """Start again what has ended, as a service manager does."""
        cluster = self._cluster
        while self._healing:
            await asyncio.sleep(self._drawn.uniform(0, RESTART))
            if cluster is not None and not cluster.pid:
                with suppress(postgres.PostgresError):  # no room yet
                    await asyncio.to_thread(cluster.start)
            for part in bed.parts:
                if not part.runs and self._healing:
                    part.start()
                    self._restarts += 1


def _via(url: str, host: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{host}:{parts.port}").geturl()


def _spawn(stack: AsyncExitStack, target: Callable[..., None], arguments: tuple[Any, ...]) -> Connection:
    """A process that is told what to do through a pipe, and ends with the stack."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    stack.callback(process.join)
    stack.callback(process.terminate)
    theirs.close()  # so that its end is heard of here
    return ours


@contextmanager
def _postgres() -> Iterator[tuple[Cluster, Disk | None]]:
    """A cluster, on a small disk of its own where one can be made."""
    with ExitStack() as stack:
        disk = None
        if harm.is_root():
            # Its owner has to reach it, and the path of a socket in it must be short.
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spot-")))
            place.chmod(0o711)
            disk = stack.enter_context(harm.small_disk(place / "disk", POSTGRES_DISK))
        yield stack.enter_context(postgres.running({"max_wal_size": "256MB"}, disk.folder if disk else None)), disk
