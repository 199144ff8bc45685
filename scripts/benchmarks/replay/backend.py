"""The backend of a replay: authority, server and proxies in processes of their own; proxies fail for hours."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from backend_stub import settings
from backend_stub.operations.founding import Plan, found
from backend_stub.operations.policy import Policy, changed

if TYPE_CHECKING:
    import random
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from scripts.benchmarks.replay.worker import SharedClock

GROUPS, EACH = 2, 2  # groups, and proxies in each
POOL_WAIT = 0.05  # real seconds; 1 s of them for each submission would be most of a replay's time
FAILS = 0.5  # share of the days on which a proxy fails
AWAY = (1, 4)  # hours, at least and at most
ANSWER_SECONDS = 120  # real
AUTHORITY, SERVER, PROXIES = "authority", "server", "proxies"  # the processes


@dataclass(frozen=True)
class Outage:
    """A proxy that is away from one hour of the day until another (seconds since 1970)."""

    proxy: str
    begins: float
    ends: float


def draw_outages(chance: random.Random, proxies: list[str], begins: float, ends: float) -> list[Outage]:
    """Which proxies are away when, on one day between these times."""
    outages = []
    for proxy in proxies:
        if chance.random() < FAILS:
            at = chance.uniform(begins, ends)
            outages.append(Outage(proxy, at, min(at + 3600 * chance.uniform(*AWAY), ends)))
    return outages


class Worker:
    """A process that has one part of the backend, or all proxies."""

    def __init__(self, process: Process, told: asyncio.StreamWriter, said: asyncio.StreamReader) -> None:
        """told, said: its standard input and output."""
        self._process = process
        self._told = told
        self._said = said

    async def ask(self, do: str, **more: Any) -> Any:
        """Have it do something, and what it says of it."""
        self._told.write(json.dumps({"do": do} | more).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._said.readline()
        if not line:
            raise RuntimeError("a part of the backend has ended by itself; its .log beside its folder says why")
        return json.loads(line)

    async def end(self) -> None:
        """Let it go."""
        self._told.close()
        await self._process.wait()


class Backend:
    """All parts, by name, and the processes that have them."""

    def __init__(self, folder: Path, workers: dict[str, Worker]) -> None:
        self.url = settings.read_part(folder / AUTHORITY).url
        self.parts = settings.parts(folder)
        self._workers = workers
        self._away = set(self.parts)

    @property
    def office(self) -> Worker:
        """The authority's."""
        return self._workers[AUTHORITY]

    @property
    def proxies(self) -> list[str]:
        """Their names."""
        return [name for name in self.parts if _worker_of(name) == PROXIES]

    async def cpu(self) -> dict[str, float]:
        """Processor seconds since its start, by process."""
        return {name: await worker.ask("cpu") for name, worker in self._workers.items()}

    async def follow(self, outages: list[Outage], now: float) -> None:
        """Have those proxies away that are to be away now."""
        away = {one.proxy for one in outages if one.begins <= now < one.ends}
        for name in sorted(away.symmetric_difference(self._away)):
            await self._turn(name, "stop" if name in away else "start")

    async def stop(self) -> None:
        """Have nobody answer, so that databases can be copied."""
        for name in self.parts:
            if name not in self._away:
                await self._turn(name, "stop")

    async def start(self) -> None:
        """Have everybody answer."""
        for name in self.parts:
            if name in self._away:
                await self._turn(name, "start")

    async def _turn(self, name: str, do: str) -> None:
        await self._workers[_worker_of(name)].ask(do, part=name)
        self._away.symmetric_difference_update({name})


def _worker_of(part: str) -> str:
    return part if part in (AUTHORITY, SERVER) else PROXIES


async def establish(folder: Path, clock: SharedClock) -> None:
    """Make a backend as `spot-backend init` does."""
    plan = Plan(
        tls=False,
        name="Replay",
        port=0,
        groups=GROUPS,
        proxies_per_group=EACH,
        policy=changed(Policy(), {"limits.submission_gap": 0, "limits.declaration_gap": 0}),
        pool_wait=POOL_WAIT,
    )
    await found(folder, plan, clock=clock)


@asynccontextmanager
async def running(folder: Path, clock: Path) -> AsyncIterator[Backend]:
    """The backend of this folder, by the clock in this file."""
    async with AsyncExitStack() as ends:
        workers = {}
        for name in (AUTHORITY, SERVER, PROXIES):
            log = ends.enter_context((folder / f"{name}.log").open("ab"))
            words = ["-m", "scripts.benchmarks.replay.worker", str(folder), str(clock)]
            workers[name] = await _begin(words, log)
            ends.push_async_callback(workers[name].end)
        backend = Backend(folder, workers)
        await backend.start()
        yield backend


async def _begin(words: list[str], log: IO[bytes]) -> Worker:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe, stderr=log)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process was begun without its pipes")
    return Worker(process, process.stdin, process.stdout)
