"""The backend of a replay: every part in a process of its own, proxies that fail for hours."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from backend_stub import settings
from backend_stub.founding import Plan, Policy, found

if TYPE_CHECKING:
    import random
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from scripts.benchmarks.replay.part import SharedClock

GROUPS, PROXIES = 2, 2  # groups, and proxies in each
POOL_WAIT = 0.05  # real seconds; 1 s of them for each submission would be most of a replay's time
FAILS = 0.5  # share of the days on which a proxy fails
AWAY = (1, 4)  # hours, at least and at most
ANSWER_SECONDS = 120  # real
AUTHORITY = "authority"


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


class Part:
    """One part's process."""

    def __init__(self, process: Process, told: asyncio.StreamWriter, said: asyncio.StreamReader) -> None:
        """told, said: its standard input and output."""
        self._process = process
        self._told = told
        self._said = said
        self.away = True

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
    """All parts, by name."""

    def __init__(self, folder: Path, parts: dict[str, Part]) -> None:
        self.parts = parts
        self.url = settings.read_part(folder / AUTHORITY).url

    @property
    def office(self) -> Part:
        """The authority's."""
        return self.parts[AUTHORITY]

    @property
    def proxies(self) -> list[str]:
        """Their names."""
        return [name for name in self.parts if name.startswith("proxy-")]

    async def cpu(self) -> dict[str, float]:
        """Processor seconds since its start, by kind of part."""
        total = {AUTHORITY: 0.0, "server": 0.0, "proxies": 0.0}
        for name, part in self.parts.items():
            total[name if name in total else "proxies"] += await part.ask("cpu")
        return total

    async def follow(self, outages: list[Outage], now: float) -> None:
        """Have those proxies away that are to be away now."""
        for name in self.proxies:
            away = any(one.proxy == name and one.begins <= now < one.ends for one in outages)
            if away != self.parts[name].away:
                await self.parts[name].ask("stop" if away else "start")
                self.parts[name].away = away

    async def stop(self) -> None:
        """Have nobody answer, so that databases can be copied."""
        for part in self.parts.values():
            if not part.away:
                await part.ask("stop")
                part.away = True

    async def start(self) -> None:
        """Have everybody answer."""
        for part in self.parts.values():
            if part.away:
                await part.ask("start")
                part.away = False


async def establish(folder: Path, clock: SharedClock) -> None:
    """Make a backend as `spot-backend init` does."""
    plan = Plan(
        tls=False,
        name="Replay",
        port=0,
        groups=GROUPS,
        proxies_per_group=PROXIES,
        policy=Policy(),
        pool_wait=POOL_WAIT,
    )
    await found(folder, plan, clock=clock)


@asynccontextmanager
async def running(folder: Path, clock: Path) -> AsyncIterator[Backend]:
    """The backend of this folder, by the clock in this file."""
    async with AsyncExitStack() as ends:
        parts = {}
        for name in settings.parts(folder):
            log = ends.enter_context((folder / f"{name}.log").open("ab"))
            words = ["-m", "scripts.benchmarks.replay.part", str(folder / name), str(clock)]
            parts[name] = await _begin(words, log)
            ends.push_async_callback(parts[name].end)
        backend = Backend(folder, parts)
        await backend.start()
        yield backend


async def _begin(words: list[str], log: IO[bytes]) -> Part:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe, stderr=log)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process was begun without its pipes")
    return Part(process, process.stdin, process.stdout)
